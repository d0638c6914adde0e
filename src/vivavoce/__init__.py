"""Make one portrait talk."""
