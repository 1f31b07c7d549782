"""What walks from no attack to a strong one show: means on the way, where closeness changes sides, how they end."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from advlens.metrics import mean

CROSSINGS = ["image", "decision", "KDE", "KL divergence", "straight", "entropy peak", "KL peak"]


def walk_means(walks: Mapping[str, pd.DataFrame], metrics: Sequence[str], *, seed: int) -> pd.DataFrame:
    """Means of metrics over the images of each attack's walk.

    Returns:
        A row an attack, metric and strength: attack, metric, eps, estimate, low, high, n.
    """
    rows = []
    for attack, walked in walks.items():
        for metric in metrics:
            for eps, steps in walked.groupby("eps"):
                average = mean(steps[metric].to_numpy(), steps["image"].to_numpy(), seed=seed)
                about = {"attack": attack, "metric": metric, "eps": eps}
                rows.append({**about, **dataclasses.asdict(average), "n": len(steps)})
    return pd.DataFrame(rows)


def end_differences(walks: Mapping[str, pd.DataFrame], metrics: Sequence[str], *, seed: int) -> pd.DataFrame:
    """What the second of two attacks has above the first at the largest strength, over images that both misread.

    Returns:
        A row a metric: metric, difference (a text such as "bim − fgsm"), estimate, low, high (paired), n.
    """
    (first, second), ends = walks, [walked[walked["eps"] == walked["eps"].max()] for walked in walks.values()]
    misread = [set(end.loc[end["predicted"] != end["label"], "image"]) for end in ends]
    both = sorted(set.intersection(*misread))
    before, after = (end.set_index("image").loc[both] for end in ends)
    rows = []
    for metric in metrics if both else []:
        average = mean((after[metric] - before[metric]).to_numpy(), np.array(both), seed=seed)
        about = {"metric": metric, "difference": f"{second} − {first}"}
        rows.append({**about, **dataclasses.asdict(average), "n": len(both)})
    return pd.DataFrame(rows, columns=["metric", "difference", "estimate", "low", "high", "n"])


def crossings(walked: pd.DataFrame) -> pd.DataFrame:
    """Where the decision changes, where the target comes closer than the source, and where two metrics peak.

    Returns:
        A row an image whose decision changed: image; decision, KDE and KL divergence: the smallest strength on the grid
        at which each has changed sides, ∞ where it never does; straight: whether the decision changes to the target at
        once; entropy peak and KL peak: the strength at which the entropy, and the divergence from the class decided on,
        is largest.
    """
    rows = []
    for image, steps in walked.sort_values("eps").groupby("image"):
        changed = steps["predicted"] != steps["label"]
        if (steps["label"] == steps["target"]).all() or not changed.any():
            continue
        crossed = {
            "decision": changed,
            "KDE": steps["KDE of target"] > steps["KDE of source"],
            "KL divergence": steps["KL divergence of target"] < steps["KL divergence of source"],
        }
        row = {"image": image, **{name: steps["eps"].where(over, np.inf).min() for name, over in crossed.items()}}
        first = steps[changed].iloc[0]
        row["straight"] = bool(first["predicted"] == first["target"])
        for peak, metric in (("entropy peak", "entropy"), ("KL peak", "KL divergence")):
            row[peak] = steps["eps"].iloc[int(np.argmax(steps[metric]))]
        rows.append(row)
    return pd.DataFrame(rows, columns=CROSSINGS)
