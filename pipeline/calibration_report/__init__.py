"""What calibrations found, as blocks of a page with pictures: each calibration's blocks, and a page of any of them."""
