"""Pictures made from the JSON that a run wrote. They need matplotlib: without it there are none."""

import math

import numpy as np

from benchmarks.report import rate_of, title

__all__ = ["crossing", "draw"]

# Okabe and Ito's colours, which people who do not see all colours tell apart; and a marker for each, for print
STYLES = {
    "gpunn-fast": ("#0072B2", "o"),
    "gpunn": ("#56B4E9", "s"),
    "torch": ("#D55E00", "^"),
    "torch-compile": ("#E69F00", "v"),
    "jax": ("#009E73", "D"),
    "sklearn": ("#CC79A7", "P"),
    "numpy": ("#000000", "x"),
}
AXES = {"batch": "batch size (784-128-10)", "width": "width W (784-W-W-10, batch 128)"}  # of the sweeps


def style(name):
    cuda = name.endswith("-cuda")
    base = name.removesuffix("-cuda")
    colour, marker = STYLES["gpunn-fast" if cuda and base == "gpunn" else base]
    filled = {"markerfacecolor": "white"} if cuda else {}
    return {"color": colour, "marker": marker, "linestyle": "--" if cuda else "-", "label": title(name), **filled}


def draw(results, folder):
    """Draw what there are figures for into PNG files; returns their paths."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    drawn = []
    both = "scaling-cpu-gpu" if results.get("sweeps") else "cpu-gpu"
    for name, f in (("steps", steps), (both, cpu_and_gpu), ("share", share), ("scaling", scaling)):
        figure = f(results, Figure)
        if figure is not None:
            drawn.append(folder / f"{name}.png")
            figure.savefig(drawn[-1], dpi=120)
    return drawn


def by_network(results):
    """{network: [rows]} of MLPs in training at more than one batch size."""
    found = {}
    for row in results.get("rows", ()):
        w = row["workload"]
        if w["kind"] == "mlp" and w["task"] == "train":
            found.setdefault("-".join(map(str, w["sizes"])), []).append(row)
    return {name: sorted(rows, key=lambda r: r["workload"]["batch"]) for name, rows in found.items() if len(rows) > 1}


def curve(rows, name):
    """(batch sizes, medians, lower and upper quartiles) of a peer, where it did the same work."""
    there = [row for row in rows if row["peers"].get(name, {}).get("same_work")]
    figures = [row["peers"][name] for row in there]
    times = (np.array([f[key] for f in figures]) for key in ("median", "q1", "q3"))
    return [row["workload"]["batch"] for row in there], *times


def peers_in(rows):
    return list(dict.fromkeys(name for row in rows for name in row["peers"]))


def panels(Figure, n, width=4.2, height=3.9, rows=1):
    figure = Figure(figsize=(width * n, height * rows), layout="constrained")
    return figure, figure.subplots(rows, n, squeeze=False)


def logarithmic(axes, xs, xlabel, ylabel):
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    shown = xs[:: 1 + len(xs) // 10]
    axes.set_xticks(shown, [f"{x:,}" for x in shown], rotation=45 if len(shown) > 5 else 0)
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)


def legend(figure, axes):
    entries = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    columns = min(4, len(entries))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)


def steps(results, Figure):
    """Training steps a second by batch size."""
    networks = by_network(results)
    if not networks:
        return None
    figure, (row,) = panels(Figure, len(networks))
    for axes, (network, rows) in zip(row, networks.items(), strict=True):
        for name in peers_in(rows):
            xs, median, q1, q3 = curve(rows, name)
            if not xs:
                continue
            rates = 1 / median
            bars = [rates - 1 / q3, 1 / q1 - rates]
            axes.errorbar(xs, rates, bars, capsize=2, markersize=6, linewidth=1.4, **style(name))
        axes.set_title(network)
        logarithmic(axes, [r["workload"]["batch"] for r in rows], "batch size", "training steps per second")
    legend(figure, row)
    return figure


def cpu_and_gpu(results, Figure):
    """Time of a training step on the CPU and the GPU, and the size from which on the GPU takes less."""
    drawn = []  # (what, what of, {peer: (sizes, medians)})
    for network, rows in by_network(results).items():
        drawn.append((network, "batch size", {name: curve(rows, name)[:2] for name in peers_in(rows)}))
    for axis, what in AXES.items():
        chosen = [s for s in results.get("sweeps", ()) if s["axis"] == axis and s["task"] == "train"]
        sizes = {s["peer"]: ([p["size"] for p in s["points"]], [p["median"] for p in s["points"]]) for s in chosen}
        drawn.append(("gpunn", what, sizes))
    drawn = [each for each in drawn if any(name.endswith("-cuda") for name in each[2])]
    if not drawn:
        return None
    figure, (row,) = panels(Figure, len(drawn))
    for axes, (network, what, curves) in zip(row, drawn, strict=True):
        notes = []
        for cpu, gpu in (("gpunn-fast" if "gpunn-fast" in curves else "gpunn", "gpunn-cuda"), ("torch", "torch-cuda")):
            if not curves.keys() >= {cpu, gpu} or curves[cpu][0] != curves[gpu][0]:
                continue
            for name in (cpu, gpu):
                axes.plot(curves[name][0], [1e3 * t for t in curves[name][1]], linewidth=1.4, **style(name))
            x, note = crossing(curves[cpu][0], curves[cpu][1], curves[gpu][1])
            notes.append(f"{title(gpu)}: {note}")
            if x is not None:
                axes.axvline(x, color=style(gpu)["color"], linestyle=":", linewidth=1.4)
        axes.set_title("\n".join([network, *notes]), fontsize="medium")
        sizes = sorted({size for xs, _ in curves.values() for size in xs})
        logarithmic(axes, sizes, what, "time of a training step (ms)")
    legend(figure, row)
    return figure


def crossing(xs, cpu, gpu):
    """(x, what to say): the size from which on the GPU takes less time, by straight lines on logarithmic axes."""
    gaps = [math.log(a / b) for a, b in zip(cpu, gpu, strict=True)]  # above 0: the GPU is faster
    if all(gap > 0 for gap in gaps):
        return None, f"faster from {xs[0]:,} on, or below"
    if gaps[-1] <= 0:
        return None, f"not faster up to {xs[-1]:,}"
    i = max(i for i, gap in enumerate(gaps) if gap <= 0)
    part = gaps[i] / (gaps[i] - gaps[i + 1])
    x = math.exp(math.log(xs[i]) + part * math.log(xs[i + 1] / xs[i]))
    return x, f"faster from {x:,.0f} on"


def share(results, Figure):
    """The share of the machine's product rate that each peer reaches, row by row, by the products that are needed."""
    rate = results.get("rates", {}).get("cpu", {}).get("product_flops")
    rows = [row for row in results.get("rows", ()) if row["workload"]["task"] == "train"]
    names = [name for name in peers_in(rows) if not name.endswith("-cuda")]
    if not rate or not names:
        return None
    figure, ((axes,),) = panels(Figure, 1, 8.4, 1.6 + 0.5 * len(rows))
    for y, row in enumerate(rows):
        for i, name in enumerate(names):
            figures = row["peers"].get(name, {})
            if figures.get("same_work"):
                x, shift = 100 * row["flops_needed"] / figures["median"] / rate, 0.6 * ((i + 0.5) / len(names) - 0.5)
                axes.plot(x, y + shift, markersize=6, **style(name) | {"linestyle": "none"})
        axes.axhline(y + 0.5, color="#cccccc", linewidth=0.6)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(100, color="#777777", linewidth=1)
    axes.set_xlim(-2, None)
    axes.set_xlabel(f"share of the product rate of this machine, {rate / 1e9:,.0f} GFLOP/s (%)")
    axes.grid(alpha=0.3, axis="x")
    legend(figure, [axes])
    return figure


def scaling(results, Figure):
    """Time per sample and share of the product rate by batch size and by width."""
    sweeps = results.get("sweeps")
    if not sweeps:
        return None
    figure, grid = panels(Figure, 2, 5.4, 3.6, rows=2)
    for column, axis in zip(zip(*grid, strict=True), AXES, strict=True):
        chosen = [sweep for sweep in sweeps if sweep["axis"] == axis]
        for sweep in chosen:
            look, points = style(sweep["peer"]) | {"linestyle": "-"}, sweep["points"]
            if sweep["peer"] == "gpunn-cuda":
                look |= {"color": STYLES["torch"][0], "marker": "^", "markerfacecolor": STYLES["torch"][0]}
            infer = sweep["task"] == "infer"
            look |= {"label": f"{look['label']}, {'inference' if infer else 'training'}", "markersize": 5}
            if infer:
                look |= {"linestyle": ":", "markerfacecolor": "white"}
            rate = rate_of(results, sweep["peer"]) or math.inf
            sizes = [p["size"] for p in points]
            per_sample = [1e6 * p["median"] / p["batch"] for p in points]
            shares = [100 * p["flops"] / p["median"] / rate for p in points]
            ring = {"markersize": 13, "markerfacecolor": "none", "color": "#000000", "linestyle": "none"}
            for axes, values in zip(column, (per_sample, shares), strict=True):
                axes.plot(sizes, values, linewidth=1.4, **look)
                marked = [(x, y) for x, y, p in zip(sizes, values, points, strict=True) if p["flagged"]]
                if marked:
                    axes.plot(*zip(*marked, strict=True), marker="o", label="grows faster than the work", **ring)
        sizes = sorted({p["size"] for sweep in chosen for p in sweep["points"]})
        for axes, label in zip(column, ("time per sample (µs)", "share of the product rate (%)"), strict=True):
            logarithmic(axes, sizes, AXES[axis], label)
            if "share" in label:
                axes.set_yscale("linear")
    legend(figure, [axes for column in grid for axes in column])
    return figure
