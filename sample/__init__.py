"""A small language (world, speaker, invent), its tasks (make_data), and text and a model made of it (corpus, pretrain)."""
