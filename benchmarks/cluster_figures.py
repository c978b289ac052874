"""From what each rank measured in benchmarks/cluster.py to figures of ranks, of nodes and of all, and to tables."""

import statistics

import numpy as np

ROWS_MAX = 32  # of a table; of more ranks, those that others wait for most
PERCENTILES = (50, 95, 99)
STAGES = ("read", "decode", "convert", "dali", "graph")
SLOWEST = 10  # files


def percentiles(waits):
    """Of waiting times: {"p50": seconds, ..., "max": seconds}."""
    values = np.percentile(waits, PERCENTILES).tolist()
    return {f"p{p}": value for p, value in zip(PERCENTILES, values, strict=True)} | {"max": max(waits)}


def times_last(ranks):
    """For each rank in how many steps it met the others last: whoever comes last waits least."""
    last = np.zeros(len(ranks), int)
    for number in range(len(ranks[0]["rounds"])):
        meets = np.array([rank["rounds"][number]["meets"] for rank in ranks])
        last += np.bincount(meets.argmin(0), minlength=len(ranks))
    return last.tolist()


def rank_figures(rank, last):
    """Those of a rank, over all rounds in which all ranks worked."""
    rounds = rank["rounds"]
    seconds, steps = sum(r["seconds"] for r in rounds), sum(len(r["waits"]) for r in rounds)
    waits = [wait for r in rounds for wait in r["waits"]]
    spent = {stage: sum(r["work"][stage] for r in rounds) for stage in (*STAGES, "load")}
    loading, work = sum(spent[stage] for stage in STAGES[:3]), sum(spent[stage] for stage in STAGES) or 1.0
    read = None if any(r["bytes"] is None for r in rounds) else np.sum([r["bytes"] for r in rounds], axis=0) / seconds
    return {
        "rank": rank["rank"], "node": rank["node"], "host": rank["host"], "threads": rank["threads"],
        "clips_per_second": sum(r["clips"] for r in rounds) / seconds, "steps": steps, "waits": percentiles(waits),
        "share_waiting_for_batches": sum(waits) / seconds,
        "share_in_steps": sum(r["stepping"] for r in rounds) / seconds,
        "share_waiting_for_ranks": sum(sum(r["meets"]) for r in rounds) / seconds, "times_last": last,
        "work": {stage: spent[stage] / work for stage in STAGES},
        "share_of_threads_computing": loading / (rank["threads"] * seconds),
        "share_of_loading_waiting": max(0.0, 1 - loading / spent["load"]) if spent["load"] else 0.0,
        "file_bytes_per_second": None if read is None else float(read[0]),
        "disk_bytes_per_second": None if read is None else float(read[1]),
        "replaced": rank["replaced"], "gpu": rank["gpu"], "verdict": rank["verdict"], "slowest": rank["slowest"],
    }  # fmt: skip


def node_figures(node, ranks, raw):
    """Those of the ranks of a node together."""
    mine = [rank for rank in ranks if rank["node"] == node]
    own = [rank for rank in raw if rank["node"] == node]
    seconds = max(sum(r["seconds"] for r in rank["rounds"]) for rank in own)
    received = next((rank["received"] for rank in own if rank["received"] is not None), None)
    known = [rank["file_bytes_per_second"] for rank in mine if rank["file_bytes_per_second"] is not None]
    return {
        "node": node, "host": mine[0]["host"], "ranks": len(mine),
        "clips_per_second": sum(rank["clips_per_second"] for rank in mine),
        "waits": percentiles([wait for rank in own for r in rank["rounds"] for wait in r["waits"]]),
        "share_waiting_for_batches": statistics.fmean(rank["share_waiting_for_batches"] for rank in mine),
        "share_in_steps": statistics.fmean(rank["share_in_steps"] for rank in mine),
        "share_waiting_for_ranks": statistics.fmean(rank["share_waiting_for_ranks"] for rank in mine),
        "times_last": sum(rank["times_last"] for rank in mine),
        "work": {stage: statistics.fmean(rank["work"][stage] for rank in mine) for stage in STAGES},
        "file_bytes_per_second": sum(known) if len(known) == len(mine) else None,
        "network_bytes_per_second": None if received is None else received / seconds,
    }  # fmt: skip


def summarise(raw):
    """Figures of all ranks.

    Args:
        raw: for each rank, what ``run_rounds`` of benchmarks/cluster.py returns; rank 0 first.

    Returns:
        "ranks" and "nodes", a dict each; "all": those of all; "slowest": the slowest files of all. Seconds and bytes.
    """
    last, world = times_last(raw), len(raw)
    ranks = [rank_figures(rank, count) for rank, count in zip(raw, last, strict=True)]
    rates = [sum(rank["rounds"][i]["clips"] for rank in raw) / max(rank["rounds"][i]["seconds"] for rank in raw)
             for i in range(len(raw[0]["rounds"]))]  # fmt: skip
    efficiencies = [rate / (world * alone) for rate, alone in zip(rates, raw[0]["alone"], strict=True)]
    waits = [wait for rank in raw for r in rank["rounds"] for wait in r["waits"]]
    files = sorted(((s, path, r["rank"]) for r in ranks for path, s in r["slowest"].items()), reverse=True)
    return {
        "all": {
            "ranks": world, "nodes": len({rank["node"] for rank in raw}), "rounds": len(rates),
            "clips_per_second": statistics.median(rates), "clips_per_second_rounds": rates,
            "alone": statistics.median(raw[0]["alone"]), "alone_rounds": raw[0]["alone"],
            "efficiency": statistics.median(efficiencies), "efficiency_rounds": efficiencies,
            "waits": percentiles(waits),
            "replaced": sum(rank["replaced"] for rank in ranks),
        },
        "nodes": [node_figures(node, ranks, raw) for node in sorted({rank["node"] for rank in raw})],
        "ranks": ranks,
        "slowest": [{"seconds": s, "path": path, "rank": rank} for s, path, rank in files[:SLOWEST]],
    }  # fmt: skip


def who(every):
    """ "2 ranks on 1 node"."""
    counts = ((every["ranks"], "rank"), (every["nodes"], "node"))
    return " on ".join(f"{number} {name}{'s' * (number != 1)}" for number, name in counts)


def _row(name, figures):
    waits, known = figures["waits"], figures["file_bytes_per_second"]
    shares = "/".join(f"{figures['work'][stage]:.0%}" for stage in STAGES)
    cells = [
        name, f"{figures['clips_per_second']:.1f}", f"{figures['share_waiting_for_batches']:.0%}",
        *(f"{1000 * waits[f'p{p}']:.0f}" for p in PERCENTILES), f"{figures['share_waiting_for_ranks']:.0%}",
        str(figures["times_last"]), shares, "not known" if known is None else f"{known / 1e6:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def tables(summary):
    """The figures as text; tables are Markdown's."""
    every, ranks = summary["all"], summary["ranks"]
    low, high = min(every["efficiency_rounds"]), max(every["efficiency_rounds"])
    shown = sorted(ranks, key=lambda rank: -rank["times_last"])[:ROWS_MAX] if len(ranks) > ROWS_MAX else ranks
    steps = ranks[0]["steps"]
    head = ["", "clips/s", "waiting for batches", *(f"p{p}, ms" for p in PERCENTILES), "waiting for ranks",
            f"last in, of {steps}", "/".join(STAGES), "MB/s of files"]  # fmt: skip
    lines = [
        "", f"{who(every)}: {every['clips_per_second']:.1f} clips/s; rank 0 alone "
        f"{every['alone']:.1f}. Scaling efficiency {every['efficiency']:.2f} (median of {every['rounds']} rounds, "
        f"{low:.2f} to {high:.2f})", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|",
        *(_row(f"node {node['node']} ({node['host']}, {node['ranks']} ranks)", node) for node in summary["nodes"]),
        *(_row(f"rank {rank['rank']} (node {rank['node']})", rank) for rank in shown), "",
    ]  # fmt: skip
    if len(shown) < len(ranks):
        lines.insert(-1, f"of {len(ranks)} ranks the {len(shown)} that others wait for most")
    for node in summary["nodes"]:
        if node["network_bytes_per_second"] is not None:
            lines.append(f"node {node['node']}: {node['network_bytes_per_second'] / 1e6:.1f} MB/s received by network")
    missing = {rank["gpu"]["missing"] for rank in ranks if "missing" in rank["gpu"]}
    lines += [f"GPU: not measured: {why}" for why in sorted(missing)]
    lines += [f"rank {r['rank']}: GPU busy {r['gpu']['busy']:.0f} %, its decoder {r['gpu']['decoder']:.0f} %"
              for r in shown if {"busy", "decoder"} <= r["gpu"].keys()]  # fmt: skip
    if every["replaced"]:
        lines.append(f"replaced clips: {every['replaced']}")
    lines += ["slowest files, with waiting:", *(f"  {f['seconds']:.3f} s, rank {f['rank']}: {f['path']}" for f in
                                                 summary["slowest"])]  # fmt: skip
    return "\n".join(lines)
