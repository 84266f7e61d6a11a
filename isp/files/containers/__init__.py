"""What a PNG, JPEG or TIFF file states before one pixel is decoded: its size, its colours, its EXIF, whether it is whole."""
