"""What ``make_exports.py`` is made of: a module for each family of exporters."""
