"""A record's figures as a page for people: ``page`` puts it together from ``shown``, each other module has some of its sections.

``page`` needs the extra ``report``.
"""
