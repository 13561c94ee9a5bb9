"""Writes docs/performance.md and docs/performance.svg from what tools/bench has measured.

    python3 tools/bench_report.py RESULTS.json FOLDER
"""

import json
import math
import pathlib
import sys

# A series: how it is called, its colour, its values, and whether its line is dashed.
FAIRPOST, BOUND, ETCD = "#0b6e4f", "#8a8a8a", "#c8553d"


def ms(seconds):
    """Milliseconds with as many digits as mean something."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(header, rows):
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def ticks(low, high):
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def panel(left, title, labels, series):
    """A plot with a logarithmic axis."""
    width, height, top = 330, 250, 50
    values = [value for _, _, points, _ in series for value in points]
    marks = ticks(min(values), max(values))
    low, high = math.log10(marks[0]), math.log10(marks[-1])

    def place(index, value):
        across = left + 20 + (width - 40) * index / max(len(labels) - 1, 1)
        return across, top + height - height * (math.log10(value) - low) / (high - low)

    out = [f'<text x="{left}" y="{top - 22}" class="title">{title}</text>']
    for mark in marks:
        _, y = place(0, mark)
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" class="grid"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    for index, label in enumerate(labels):
        x, _ = place(index, marks[0])
        out.append(f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{label}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 36}" text-anchor="middle">clients</text>')
    for number, (name, colour, points, dashed) in enumerate(series):
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        path = " ".join("{:.1f},{:.1f}".format(*place(index, value)) for index, value in enumerate(points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for index, value in enumerate(points):
            x, y = place(index, value)
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{value:.4g}</title></circle>')
        y = top + height + 62 + 18 * number
        out.append(f'<line x1="{left}" y1="{y - 4}" x2="{left + 26}" y2="{y - 4}" stroke="{colour}" stroke-width="2"{dash}/>')
        out.append(f'<text x="{left + 34}" y="{y}">{name}</text>')
    return "\n".join(out)


def plot(results):
    fairpost, etcd = results["fairpost"], results["etcd"]
    labels = [report["clients"] for report in fairpost]

    def latency(reports, share):
        return [report["latency_seconds"][share] * 1e3 for report in reports]

    rates = [
        ("etcd, puts of 1 KiB", ETCD, [report["puts_per_second"] for report in etcd], False),
        ("bound by cryptography", BOUND, [report["bound_per_second"] for report in fairpost], True),
        ("Fairpost, full exchanges", FAIRPOST, [report["exchanges_per_second"] for report in fairpost], False),
    ]
    latencies = [
        ("Fairpost, receipt to token, p99", FAIRPOST, latency(fairpost, "p99"), True),
        ("Fairpost, receipt to token, p50", FAIRPOST, latency(fairpost, "p50"), False),
        ("etcd, p99", ETCD, latency(etcd, "p99"), True),
        ("etcd, p50", ETCD, latency(etcd, "p50"), False),
    ]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 440" font-family="sans-serif" font-size="12">
<style>.title {{ font-size: 14px; font-weight: bold }} .grid {{ stroke: #ddd }} text {{ fill: #222 }}</style>
<rect width="820" height="440" fill="#fff"/>
{panel(60, "Rate, a second", labels, rates)}
{panel(470, "Latency, milliseconds", labels, latencies)}
</svg>
"""


def rates(results):
    header = ["clients", "exchanges/s", "bound/s", "share of the bound", "in an entry", "tokens together", "p50 (ms)", "p99 (ms)"]
    header += ["proof p50 (ms)", "CPU of a node (ms)", "memory of a node (MB)", "cores others used"]
    rows = []
    for report in results["fairpost"]:
        nodes = report["nodes"]
        cpu = sum(node["cpu_seconds_per_exchange"] for node in nodes) / len(nodes)
        memory = max(node["resident_bytes"] or 0 for node in nodes) / 1e6
        latency, proof = report["latency_seconds"], report["proof_latency_seconds"]
        row = [report["clients"], f"{report['exchanges_per_second']:.0f}", f"{report['bound_per_second']:.0f}"]
        row += [f"**{report['share_of_bound']:.0%}**", f"{report['batch']:.1f}", f"{report['token_batch']:.1f}", ms(latency["p50"]), ms(latency["p99"])]
        rows.append([*row, ms(proof["p50"]), ms(cpu), f"{memory:.0f}", f"{report['others_cpu'] or 0:.2f}"])
    return table(header, rows)


def beside_etcd(results):
    header = ["clients", "etcd puts/s", "p50 (ms)", "p99 (ms)", "CPU of 4 members (ms)"]
    header += ["puts/s ÷ exchanges/s", "CPU of an exchange ÷ of a put", "p50 ÷ etcd's"]
    rows = []
    for fairpost, etcd in zip(results["fairpost"], results["etcd"]):
        latency, cpu = etcd["latency_seconds"], etcd["cpu_seconds_per_put"]
        exchange = sum(node["cpu_seconds_per_exchange"] for node in fairpost["nodes"])
        row = [etcd["clients"], f"{etcd['puts_per_second']:.0f}", ms(latency["p50"]), ms(latency["p99"]), ms(cpu)]
        row.append(f"{etcd['puts_per_second'] / fairpost['exchanges_per_second']:.1f}")
        row += [f"{exchange / cpu:.1f}", f"{fairpost['latency_seconds']['p50'] / latency['p50']:.1f}"]
        rows.append(row)
    return table(header, rows)


def bound(report):
    rows = [
        [cost["operation"], f"{cost['seconds'] * 1e6:.0f}", f"{cost['per_exchange']:.2f}", f"{cost['seconds_per_exchange'] * 1e6:.0f}"]
        for cost in report["bound"]["operations"]
    ]
    rows.append(["an exchange, over all nodes", "", "", f"{report['bound']['seconds_per_exchange'] * 1e6:.0f}"])
    return table(["operation", "once (µs)", "times", "together (µs)"], rows)


def way(report):
    unavoidable = report["unavoidable"]
    rows = [
        [part["part"], f"{part['seconds'] * 1e6:.0f}", f"{part['times']:.0f}", f"{part['seconds_together'] * 1e6:.0f}"]
        for part in unavoidable["parts"]
    ]
    rows.append(["all of it", "", "", f"{unavoidable['seconds'] * 1e6:.0f}"])
    return table(["part", "once (µs)", "times", "together (µs)"], rows)


def stages(report):
    rows = [
        [stage["stage"].removeprefix("fairpost_").replace("|", "\\|"), ms(stage["mean"]), ms(stage["p50"]), ms(stage["p99"])]
        for stage in report["stages"]
        if "_seconds" in stage["stage"]
    ]
    return table(["what the nodes measure", "mean (ms)", "p50 (ms)", "p99 (ms)"], rows)


def exchanges(count):
    return f"{count:,}"


def middle(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def growth(results):
    """A row for each quantity: at the small cluster, at the large one, and their ratio, round by round."""
    small, large = results["growth"]
    clients = list(small["rounds"][0])
    quantities = []
    for count in clients:
        quantities.append((count, "exchanges/s", lambda report: report["exchanges_per_second"], lambda value: f"{value:.0f}"))
        quantities.append((count, "p50 (ms)", lambda report: report["latency_seconds"]["p50"], ms))
        quantities.append((count, "p99 (ms)", lambda report: report["latency_seconds"]["p99"], ms))
    resident = lambda report: max(node["resident_bytes"] or 0 for node in report["nodes"])
    quantities.append((clients[0], "memory of a node (MB)", resident, lambda value: f"{value / 1e6:.0f}"))
    rows = []
    for count, what, value, show in quantities:
        of = [[value(one[count]) for one in cluster["rounds"]] for cluster in (small, large)]
        ratios = [after / before for before, after in zip(*of)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append([f"{what}, {count} client{'' if count == '1' else 's'}", *(show(middle(values)) for values in of), f"**{middle(ratios):.2f}**", spread])
    header = ["median of the rounds", *(exchanges(cluster["exchanges"]) for cluster in (small, large)), "ratio", "in the rounds"]
    return table(header, rows)


def disk(results):
    small, large = results["growth"]
    header = ["exchanges", "filled in (s)", "disk of a node (MB)", "for each exchange (bytes)", "after the load (MB)", "exchanges then", "for each (bytes)"]
    rows = []
    for cluster in (small, large):
        stored, after = cluster["exchanges"], cluster["exchanges"] + cluster["answered"]
        row = [exchanges(stored), f"{cluster['filled_in_seconds']:.0f}", f"{cluster['disk_bytes'] / 1e6:.1f}", f"{cluster['disk_bytes'] / stored:.0f}"]
        rows.append([*row, f"{cluster['disk_bytes_after'] / 1e6:.1f}", exchanges(after), f"{cluster['disk_bytes_after'] / after:.0f}"])
    more = (large["disk_bytes"] - small["disk_bytes"]) / (large["exchanges"] - small["exchanges"])
    return table(header, rows), more


def grown(results):
    small, large = results["growth"]
    on_disk, more = disk(results)
    return f"""## As it grows

Two clusters run side by side: one has {exchanges(small["exchanges"])} exchanges stored when the load begins, the other {exchanges(large["exchanges"])}, with
signatures, votes of a quorum and all evidence. The same load goes to one and the other by turns, {len(small["rounds"])} rounds, each beginning with
another, so that what changes on the machine changes for both. The ratio is the larger one's number over the smaller one's in the same
round.

{growth(results)}
On the disk there are the ledger, the witness's store and the log, which is purged and does not grow with the exchanges. Between the two, an
exchange takes **{more:.0f} bytes** on each node, with all evidence.

{on_disk}"""


def page(results):
    one = min(results["fairpost"], key=lambda report: report["clients"])
    many = next((report for report in results["fairpost"] if report["clients"] == 64), results["fairpost"][-1])
    machine = results["machine"]
    return f"""# How fast it is

Written by `make bench`, which measures all of this anew on the machine it runs on; don't edit it. Version {results["version"]}, beside etcd
{results["etcd_version"]}, on one machine: {machine["cores"]} cores ({machine["processor"]}), {machine["file_system"]}. Four nodes, four members of etcd, and the clients
share it. So the ratios say more than the numbers: they hold where the numbers don't.

![Rate and latency by the number of clients](performance.svg)

## Beside its bound

{rates(results)}
A full exchange: the recipient hands in a receipt and gets the token that opens the mail (p50, p99), then the sender asks the same node for the
proof. The **bound** is the rate that the unavoidable cryptographic operations alone would allow on all cores of this machine, with
no disk, no network and no parsing. What lies between rate and bound is what everything else costs, the clients, and whatever
else ran on the machine (last column: where it is not near 0, measure again).

What an exchange can't do without, with {many["clients"]} clients, each operation measured in the same run on one thread:

{bound(many)}
## One exchange alone

With one client, what has to happen one after the other, on an idle cluster:

{way(one)}
The median exchange took {ms(one["latency_seconds"]["p50"])} ms: **{one["unavoidable"]["latency_ratio"]:.1f} times** that.

## Where the time goes

With {many["clients"]} clients. `admit` is the checking of a request, `order` the way through Raft until the node has decided, `finish` the votes, the
shares and the token (for a proof: only reading). A sync is one write of a batch.

{stages(many)}
## Beside etcd

etcd is a good measure of what it costs to replicate and sync, with nobody signing, voting or verifying, and with one
trusted leader. The same number of members and clients, on the same disk, without TLS; each put is a new key with a value of 1 KiB, about
what a receipt and its NRO have. An exchange syncs three times on each node, a put once.

{beside_etcd(results)}
{grown(results)}
## How to measure

    make bench                                                   # this page
    fairpostctl bench --dir demo --clients 64 --seconds 30       # a cluster of your own

`fairpostctl bench --help` has the options, [json.md](json.md) the form for programs, and [decision 013](decisions/013-what-the-bound-counts.md) what the bound counts
and why. Every token that came back is verified afterwards, and a sample of the proofs with the mails that they open: if one does not
hold, there is no result.
"""


def write(results, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.md").write_text(page(results))
    (folder / "performance.svg").write_text(plot(results))


if __name__ == "__main__":
    write(json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2]))
