"""Which training texts are worth aligning with a generated text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from byrote.attacks.extraction.plagiarism.documents import Document, Ints


class Retrieval:
    """A full-text search over the training texts by BM25, as Lucene's with k1 = 1.2 and b = 0.75.

    Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond".
    """

    def __init__(self, documents: Sequence[Document], words: Mapping[str, int]) -> None:
        import logging

        from bm25s import BM25
        from bm25s.stopwords import STOPWORDS_EN_PLUS

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it would tell on the terminal of every index
        self._stop_words = np.array([words[word] for word in STOPWORDS_EN_PLUS if word in words], dtype=np.int64)
        self._size = len(words)
        self._index: BM25 | None = None
        if words:
            self._index = BM25(k1=1.2, b=0.75, method="lucene")
            ids = [one.words.tolist() for one in documents]
            self._index.index((ids, dict(words)), show_progress=False)

    def best(self, document: Document, count: int) -> Ints:
        """The numbers of the `count` best training texts, best first; fewer where fewer share a word.

        English stop words are not searched for; each other word of the generated text is, once.
        """
        query = np.unique(document.words)
        query = np.setdiff1d(query[query < self._size], self._stop_words, assume_unique=True)
        if self._index is None or not len(query):
            return np.zeros(0, dtype=np.int64)
        scores = np.asarray(self._index.get_scores_from_ids(query.tolist()))
        hits = np.flatnonzero(scores > 0)
        return hits[np.argsort(-scores[hits], kind="stable")[:count]]
