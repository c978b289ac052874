"""From what each rank measured in benchmarks/gpu.py to figures, a table, and a line for docs/gpu.md."""

import statistics

HEAD = (
    "videos", "recipe", "what", "where", "clips/s", "rounds", "frames/s", "decoded/s", "of ceiling", "NVDEC", "SM",
    "memory", "PCIe in, out, MB/s", "CPU",
)  # fmt: skip
LINE = ("recipe", "GPU, threads of each", "videos", "clips/s a GPU", "all GPUs", "of ceiling", "NVDEC", "SM", "CPU",
        "published by others")  # fmt: skip
LOADS = ("decoder", "busy", "memory", "received", "sent")


def with_rates(measured, frames_per_clip, decoded_per_clip, cores):
    """A round as it is kept.

    Args:
        measured: what ``usage.measure`` gives.
        frames_per_clip: that are delivered.
        decoded_per_clip: that were decoded, on average; None where nobody says.
        cores: of this rank.
    """
    clips, seconds = measured["clips"], measured["seconds"]
    decoded = None if decoded_per_clip is None else clips * decoded_per_clip
    return {
        **measured, "clips_per_second": clips / seconds,
        "frames": clips * frames_per_clip, "frames_per_second": clips * frames_per_clip / seconds,
        "decoded": decoded, "decoded_per_second": None if decoded is None else decoded / seconds,
        "cpu_share": measured["cpu_seconds"] / (seconds * cores),
    }  # fmt: skip


def _median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratios(row, ceiling):
    """Of the ceiling's clips per second, round by round; empty where there is none."""
    pairs = zip(row["rounds"], ceiling["rounds"] if ceiling else (), strict=False)
    return [mine["clips_per_second"] / whole["clips_per_second"] for mine, whole in pairs]


def row_figures(row, ceiling):
    """Medians of a rank's rounds of a row, and its share of the ceiling of the same videos and recipe."""
    rounds = row["rounds"]
    names = ("clips_per_second", "frames_per_second", "decoded_per_second", "cpu_share")
    found = {name: _median([one[name] for one in rounds]) for name in names}
    found |= {name: _median([one["gpu"].get(name) for one in rounds]) for name in LOADS}
    rates = [one["clips_per_second"] for one in rounds]
    return found | {"lowest": min(rates, default=None), "highest": max(rates, default=None),
                    "of_ceiling": _median(_ratios(row, ceiling))}  # fmt: skip


def sum_figures(rows, ceilings):
    """Those of a row of all ranks together: rates are added up round by round, shares are means."""
    every = [row_figures(row, ceiling) for row, ceiling in zip(rows, ceilings, strict=True)]
    rounds = list(zip(*(row["rounds"] for row in rows), strict=True))
    found = {}
    for name in ("clips_per_second", "frames_per_second", "decoded_per_second", "received", "sent"):
        values = [[one["gpu"].get(name) if name in LOADS else one[name] for one in together] for together in rounds]
        found[name] = _median([None if None in some else sum(some) for some in values])
    for name in ("cpu_share", "of_ceiling", "decoder", "busy", "memory"):
        known = [figures[name] for figures in every]
        found[name] = None if None in known or not known else statistics.fmean(known)
    rates = [sum(one["clips_per_second"] for one in together) for together in rounds]
    return found | {"lowest": min(rates, default=None), "highest": max(rates, default=None)}


def summarise(ranks):
    """Rows with the figures of each rank and of all.

    Args:
        ranks: for each rank its rows, in one order: {"videos", "recipe", "about", "what", "kind", "where", "note",
            "rounds", "published"}; kind is "ceiling", "ours", "peer" or "published".
    """
    rows, world = [], len(ranks)
    for together in zip(*ranks, strict=True):
        first = together[0]
        of_it = first["videos"], first["recipe"]
        group = [[row for row in mine if (row["videos"], row["recipe"]) == of_it] for mine in ranks]
        ceilings = [next((r for r in mine if r["kind"] == "ceiling" and r["rounds"]), None) for mine in group]
        one = {key: first[key] for key in ("videos", "recipe", "what", "kind", "published", "about")}
        one["ranks"] = [
            {"where": row["where"], "note": row["note"], "rounds": row["rounds"], **row_figures(row, ceiling)}
            for row, ceiling in zip(together, ceilings, strict=True)
        ]
        one["all"] = sum_figures(together, ceilings) if world > 1 and all(row["rounds"] for row in together) else None
        rows.append(one)
    return rows


def _number(value, form="{:.1f}"):
    return "-" if value is None else form.format(value)


def _cells(row, where, figures, rounds=""):
    megabytes = [_number(figures[name] and figures[name] / 1e6, "{:.0f}") for name in ("received", "sent")]
    return [
        row["videos"], row["recipe"], row["what"], where, _number(figures["clips_per_second"]), rounds,
        _number(figures["frames_per_second"], "{:.0f}"), _number(figures["decoded_per_second"], "{:.0f}"),
        _number(figures["of_ceiling"], "{:.0%}"), *(_number(figures[name], "{:.0f}%") for name in LOADS[:3]),
        "-" if megabytes == ["-", "-"] else ", ".join(megabytes), _number(figures["cpu_share"], "{:.0%}"),
    ]  # fmt: skip


def _line(cells):
    return f"| {' | '.join(map(str, cells))} |"


def table(rows):
    """The lines of the table, in Markdown; then what there is to say about its rows."""
    lines = [_line(HEAD), "|---" * len(HEAD) + "|"]
    notes = list(dict.fromkeys(f"{row['recipe']}: {row['about']}" for row in rows))
    for row in rows:
        if row["kind"] == "published":
            record = row["published"]
            cells = [row["videos"], row["recipe"], row["what"], record["machine"], f"{record['rate']} a GPU"]
            lines.append(_line([*cells, *["-"] * (len(HEAD) - len(cells))]))
            notes.append(f"{row['recipe']}, published: {record['what']}, on {record['machine']}; {record['source']}. "
                         f"Not the same: {record['unlike']}")  # fmt: skip
            continue
        each = [(rank["where"], rank, rank["note"], rank["rounds"]) for rank in row["ranks"]]
        unit = "ranks" if each[0][0].startswith("CPU") else "GPUs"
        each += [(f"all {len(each)} {unit}", row["all"], None, each[0][3])] if row["all"] else []
        for where, figures, note, rounds in each:
            spread = f"{figures['lowest']:.1f} to {figures['highest']:.1f}" if rounds else "-"
            lines.append(_line(_cells(row, where, figures, spread)))
            if note:
                notes.append(f"{row['videos']}, {row['recipe']}, {row['what']}, {where}: {note}")
    return [*lines, "", *notes]


def docs_lines(rows, threads):
    """Lines for the table of docs/gpu.md: one for each recipe and set of videos, of figures of a GPU only.

    Args:
        rows: of ``summarise``.
        threads: of each rank.

    Raises:
        ValueError: there was no GPU.
    """
    lines = []
    for row in rows:
        if row["kind"] != "ours" or not all(rank["rounds"] for rank in row["ranks"]):
            continue
        ranks, whole = row["ranks"], row["all"] or row["ranks"][0]
        if any(rank["where"].startswith("CPU") for rank in ranks):
            raise ValueError("there was no GPU: the table of docs/gpu.md has figures of GPUs only")
        gpu = ranks[0]["where"].partition(": ")[2]
        record = row["published"]
        published = f"{record['rate']} on {record['machine']}: {record['what']}" if record else "-"
        a_gpu = statistics.fmean(rank["clips_per_second"] for rank in ranks)
        lines.append(_line([
            row["recipe"], f"{len(ranks)} x {gpu}, {threads}", row["videos"], _number(a_gpu),
            _number(whole["clips_per_second"]), _number(whole["of_ceiling"], "{:.0%}"),
            *(_number(whole[name], "{:.0f}%") for name in ("decoder", "busy")), _number(whole["cpu_share"], "{:.0%}"),
            published,
        ]))  # fmt: skip
    return [_line(LINE), "|---" * len(LINE) + "|", *lines]
