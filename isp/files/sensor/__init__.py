"""What a RAW file says of its sensor: colour filters, levels, light and gains, each judged by a finding."""
