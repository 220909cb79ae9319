"""The official layout and the published size of each GLUE task."""

# Task -> (header line, one training row, what the row means).
OFFICIAL = {
    "cola": (None, ["gj04", "0", "*", "cat the"], ("cat the", None, 0)),
    "sst2": (["sentence", "label"], ["a fine bird ", "1"], ("a fine bird ", None, 1)),
    "mrpc": (["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["1", "7", "8", '" a', "b"], ('" a', "b", 1)),
    "stsb": (
        "index genre filename year old_index source1 source2 sentence1 sentence2 score".split(),
        ["0", "g", "f", "y", "1", "s", "t", "a cat", "a dog", "2.500"],
        ("a cat", "a dog", 2.5),
    ),
    "qqp": (
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["9", "1", "2", "a?", "b?", "0"],
        ("a?", "b?", 0),
    ),
    "mnli": (
        "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
        "sentence1 sentence2 label1 gold_label".split(),
        ["0", "p", "q", "g", "b1", "b2", "p1", "p2", "one", "two", "neutral", "contradiction"],
        ("one", "two", 2),
    ),
    "qnli": (["index", "question", "sentence", "label"], ["0", "who?", "me", "not_entailment"], ("who?", "me", 1)),
    "rte": (["index", "sentence1", "sentence2", "label"], ["0", "s", "t", "entailment"], ("s", "t", 0)),
    "wnli": (["index", "sentence1", "sentence2", "label"], ["0", "s", "t", "1"], ("s", "t", 1)),
}

# Task -> numbers of records in train, dev, test (MNLI: dev and test of both kinds), from the dataset card
# https://huggingface.co/datasets/nyu-mll/glue.
PUBLISHED = {
    "cola": (8551, 1043, 1063),
    "sst2": (67349, 872, 1821),
    "mrpc": (3668, 408, 1725),
    "stsb": (5749, 1500, 1379),
    "qqp": (363846, 40430, 390965),
    "mnli": (392702, 9815, 9832, 9796, 9847),
    "qnli": (104743, 5463, 5463),
    "rte": (2490, 277, 3000),
    "wnli": (635, 71, 146),
}
