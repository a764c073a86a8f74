"""The face that scikit-learn knows: estimators with `fit`, `predict` and `score`.

    from gpunn import MLPClassifier                     # in place of: from sklearn.neural_network import MLPClassifier

    clf = MLPClassifier((100, 50), dropout=0.2, early_stopping=True, random_state=0).fit(X, y)
    clf.predict_proba(X_test); clf.score(X_test, y_test)

    MLPClassifier, MLPRegressor     a multilayer perceptron, with the names of scikit-learn's wherever it has one
    NetClassifier, NetRegressor     any other network of gpunn's layers

They work without scikit-learn, and with it (the extra `sklearn`) in its pipelines, searches and cross-validation. It is
never imported from here: what it asks for is found in `sys.modules` once the program has imported it.

X (N, D) may be an array of any library, a frame of pandas or polars, a list, or a scipy.sparse matrix. A sparse one is
made dense as a whole when it comes in, N D numbers of 8 bytes (4 of float32): where that does not fit into memory, give
`partial_fit` and `predict` some rows at a time. y holds labels of any kind (N,), 0s and 1s of L labels (N, L), or for
regression numbers (N,) or (N, C). Answers come in the library and on the device of X, as NumPy arrays for all that is
no array; labels that are texts are always NumPy's.

Numbers are computed in float32 where X is of it and in float64 otherwise, as scikit-learn does; `dtype` decides
otherwise. Errors are those of `gpunn.errors`; those about data and parameters are ValueErrors or TypeErrors, too.
"""

from gpunn.estimator.networks import MLPClassifier, MLPRegressor, NetClassifier, NetRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NetClassifier", "NetRegressor"]
