"""A small language (world, speaker, invent), its tasks (make_data), text and a model made of it (corpus, pretrain)."""
