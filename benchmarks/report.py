"""Markdown tables made from the JSON that a run wrote."""

from benchmarks.peers import PEERS
from benchmarks.rounds import summary
from benchmarks.workloads import CHECKED, PRECISIONS, Workload, floor, product_rate

__all__ = ["best_of", "rate_of", "ratio", "report", "title"]

BUSY = 0.5  # tasks at work, on average over a minute, above which a machine is not quiet
OURS = {"cpu": ("gpunn-fast", "gpunn"), "cuda": ("gpunn-cuda",)}


def report(results):
    """All tables that there are figures for, as Markdown."""
    parts = [heading(results)]
    for device in ("cpu", "cuda"):
        rows = [row for row in results.get("rows", ()) if on(device, row["peers"])]
        if rows:
            rates = results["rates"].get(device, {})
            parts += [times(rows, device, rates), same_work(rows, device)]
            trained = [row for row in rows if row["workload"]["task"] == "train"]
            if product_rate(rates, "float32") and trained:
                parts.append(shares(trained, device, rates))
    if results.get("cost"):
        parts.append(costs(results["cost"]))
    for sweep in results.get("sweeps", ()):
        parts.append(sweep_table(sweep, rate_of(results, sweep["peer"])))
    missing = {**results.get("skipped", {}), **results.get("failed", {})}
    if missing:
        parts.append("Not measured:\n\n" + "\n".join(f"- {name}: {reason}" for name, reason in missing.items()))
    return "\n\n".join(parts) + "\n"


def heading(results):
    machine, settings = results["machine"], results["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {machine['date']}. {versions}."]
    for device, rate in results["rates"].items():
        if rate:
            where = {"cpu": "The processor", "cuda": f"The GPU ({rate.get('name')})"}[device]
            lines.append(
                f"{where} multiplies matrices of float32 at {rate['product_flops'] / 1e9:,.0f} GFLOP/s and copies "
                f"{rate['copy_bytes'] / 1e9:,.1f} GB/s, read and written{' by one thread' if device == 'cpu' else ''}."
            )
            if more := [f"{n / 1e9:,.0f} GFLOP/s in {p}" for p in PRECISIONS[1:] if (n := product_rate(rate, p))]:
                lines.append(f"It multiplies at {' and '.join(more)}.")
            if "to_bytes" in rate:
                lines.append(f"To it go {rate['to_bytes'] / 1e9:,.1f} GB/s, from it {rate['from_bytes'] / 1e9:,.1f}.")
    kernels = {str(kernel) for _, kernel, _ in results["rates"].get("cpu", {}).get("threads", {}).values() if kernel}
    if kernels:
        lines.append(f"BLAS kernel of NumPy: {', '.join(sorted(kernels))}.")
    lines.append(f"Medians of {settings['rounds']} rounds in which all take their turn.")
    if (machine.get("load") or 0.0) > BUSY:
        lines.append(f"**Others were at work on this machine when it began: a load of {machine['load']:.1f}.**")
    if machine["environment"]:
        pinned = ", ".join(f"{name}={value}" for name, value in machine["environment"].items())
        lines.append(f"**Measured with {pinned}: these are not the figures of an untouched machine.**")
    return "\n".join(lines)


def times(rows, device, rates):
    """One row for each workload, one column for each peer: the median time; then the ratios that matter.

    For a GPU the last column is the first peer's time over the least that the device's rates allow.
    """
    names = [name for name in PEERS if any(name in row["peers"] for row in rows) and PEERS[name].device == device]
    ours = [name for name in OURS[device] if name in names]
    against = {"cpu": "torch", "cuda": "torch-cuda"}[device]
    header = ["one training step, or inference", *map(title, names)]
    header += [f"{title(name)} / fastest other" for name in ours[:1]]
    header += [f"{title(name)} / {title(against)}" for name in ours if against in names]
    floors = device == "cuda" and ours and "copy_bytes" in rates
    header += [f"{title(ours[0])} / floor"] if floors else []
    table = []
    for row in rows:
        peers = row["peers"]
        fastest = best_of(row, names)
        cells = [("inference: " if row["workload"]["task"] == "infer" else "") + row["name"]]
        for name in names:
            figures = peers.get(name)
            text = "-" if figures is None else duration(figures["median"])
            if figures is not None and not figures["same_work"]:
                text += " (other work)"
            cells.append(f"**{text}**" if name == fastest else text)
        rival = best_of(row, [name for name in names if name not in OURS[device]])
        cells += [
            f"{ratio(peers, name, rival)} {title(rival)}" if name in peers and rival else "-" for name in ours[:1]
        ]
        cells += [ratio(peers, name, against) for name in ours if against in names]
        if floors:
            w = Workload.of(row["workload"])
            least = floor(w, rates) if w.task == "train" else None
            figures = peers.get(ours[0])
            cells.append(f"{figures['median'] / least:.2f}" if figures and least else "-")
        table.append(cells)
    return markdown(header, table) + (
        "\n\nBold: the fastest. A ratio below 1 means that gpunn takes less time: the median over the rounds, and the "
        "quartiles."
        + (" Floor: the time of the products or of what must be read and written, at these rates." if floors else "")
    )


def best_of(row, names):
    """The fastest of `names` in a row, of those that did the same work; None if there is none."""
    ranked = [name for name in names if row["peers"].get(name, {}).get("same_work")]
    return min(ranked, key=lambda name: row["peers"][name]["median"], default=None)


def ratio(peers, name, other):
    """The time of one peer over that of another, round by round: "0.93 (0.91 to 0.95)"."""
    if not all(peers.get(each, {}).get("same_work") for each in (name, other)):
        return "-"
    pairs = zip(peers[name]["seconds"], peers[other]["seconds"], strict=True)
    s = summary([ours / theirs for ours, theirs in pairs])
    return f"{s['median']:.2f} ({s['q1']:.2f} to {s['q3']:.2f})"


def same_work(rows, device):
    """Who had the same losses in the checked steps, and the same answers, and who had not."""
    right, wrong = [], []
    for row in rows:
        for name, figures in on(device, row["peers"]).items():
            (right if figures["same_work"] else wrong).append((figures["deviation"], f"{title(name)} in {row['name']}"))
    what = f"the losses of the first {CHECKED} steps, and the answers of inference,"
    text = f"Nobody did the same work: {what} differ."
    if right:
        others = "All others" if wrong else "All"
        text = f"{others} did the same work: {what} lie within {max(right)[0]:.0e} of the median of all."
    if wrong:
        listed = "; ".join(f"{who} ({deviation:.0e} off)" for deviation, who in wrong)
        text = f"Not ranked, because not the same work was done: {listed}. {text}"
    alone = [row["name"] for row in rows if len(row["peers"]) < 2]
    return text + (f" With nobody to compare with: {'; '.join(alone)}." if alone else "")


def shares(rows, device, rates):
    """How much of the product rate each peer reaches, by the products that are needed; and by the usual count."""
    names = [name for name in PEERS if any(name in row["peers"] for row in rows) and PEERS[name].device == device]
    ours = next((name for name in OURS[device] if name in names), None)
    table = []
    for row in rows:
        rate = product_rate(rates, Workload.of(row["workload"]).precision)
        counts = [f"{row['flops'] / 1e9:,.3g}", f"{row['flops_needed'] / 1e9:,.3g}"]
        needed = [percent(row["flops_needed"], row["peers"].get(name), rate) for name in names]
        usual = [percent(row["flops"], row["peers"].get(ours), rate)] if ours else []
        table.append([row["name"], *counts, *needed, *usual])
    header = ["share of the product rate", "GFLOP", "of them needed", *map(title, names)]
    header += [f"{title(ours)}, by all GFLOP"] if ours else []
    return markdown(header, table) + (
        "\n\nGFLOP: those of the matrix products of a step, three for each layer; in an MLP 6 x batch x weights. The "
        "gradient by the first layer's input is not needed and the other counts leave it out."
    )


def percent(flops, figures, rate):
    return "-" if figures is None or rate is None else f"{100 * flops / figures['median'] / rate:.1f} %"


def rate_of(results, name):
    """The measured product rate of a peer's device in float32, in operations a second; None if there is none."""
    return product_rate(results["rates"].get(PEERS[name].device, {}), "float32")


def costs(cost):
    """Import, installed size, first steps and peak memory of each peer."""
    workloads = list(dict.fromkeys(name for figures in cost.values() for name in figures["training"]))
    header = ["what it costs", "import", "installed"]
    for name in workloads:
        header += [f"first step ever, {name}", "first step later", "peak memory"]
    table = []
    for peer, figures in cost.items():
        size = figures.get("installed")
        cells = [title(peer), duration(figures["import_s"]["median"]), megabytes(size["bytes"]) if size else "-"]
        for name in workloads:
            t = figures["training"].get(name)
            cells += [duration(t["first_ever_s"]), duration(t["first_s"]), megabytes(t["peak_bytes"])] if t else "---"
        table.append(cells)
    python = duration(next(iter(cost.values()))["python_s"]["median"])
    return markdown(header, table) + (
        f"\n\nImport: a whole process of Python that imports it and ends; without any import that takes {python}. "
        "Installed: all files of the packages and of everything they require, byte-code included. The first step ever "
        "compiles what is compiled; later processes find it on the disk, where the peer keeps it. It counts from the "
        "building of the network. Peak memory: of the process, training."
    )


def sweep_table(sweep, rate):
    """Time per sample at each size of a sweep."""
    what = {"train": "a training step", "infer": "inference"}[sweep["task"]]
    network = {"batch": "784-128-10", "width": "784-W-W-10, batch 128"}[sweep["axis"]]
    table = [
        [
            f"{p['size']:,}",
            duration(p["median"]),
            duration(p["median"] / p["batch"]),
            percent(p["flops"], p, rate),
            "grows faster than the work" if p["flagged"] else "",
        ]
        for p in sweep["points"]
    ]
    header = [sweep["axis"], "time", "per sample", "share of the product rate", ""]
    return f"{title(sweep['peer'])}, {what} of {network}:\n\n" + markdown(header, table)


def title(name):
    """A peer's name in full."""
    return PEERS[name].title


def on(device, peers):
    return {name: figures for name, figures in peers.items() if PEERS[name].device == device}


def duration(seconds):
    """Seconds with three digits, in the unit that fits."""
    unit, factor = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds * 1e3 >= 1 else ("µs", 1e6)
    value = seconds * factor
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def megabytes(number):
    return f"{number / 1e6:,.0f} MB"


def markdown(header, rows):
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
