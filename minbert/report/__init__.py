"""The report of runs (python -m minbert.report), and what all reports and figures of the project share: the style of
pictures, blocks that become a page, files. matplotlib is imported by the files with pictures only.
"""
