"""Training of learned ISPs: `python -m isp.train --recipe train/paramisp_pretrain`."""
