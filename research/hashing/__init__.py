"""The medians that codes of pictures are measured against."""
