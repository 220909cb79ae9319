"""Published data files: where they are, how they are downloaded and checked."""

from minbert.download.sources import Source, download_source, sources_of

__all__ = ["Source", "download_source", "sources_of"]
