"""Computes figures of a store with other engines; prints {engine: {figure: value}} as JSON.

Arguments: the store, a Parquet file of its documents (id, body), and the store's views as JSON Lines (table_name, definition).
"""

import glob
import json
import sys

import deltalake
import duckdb
import pandas
import polars
import pyarrow.dataset

store, documents, views = sys.argv[1:]
TABLES = ["entities", "documents", "rejects", "sources", "metrics", "runs"]
found = {}


def files(table):
    return sorted(glob.glob(f"{store}/{table}/**/*.parquet", recursive=True))


def by_sql(connection):
    """The figures of an engine in which the tables are views."""
    ask = lambda sql: connection.execute(sql).fetchone()[0]
    figures = {table: ask(f"SELECT count(*) FROM {table}") for table in TABLES}
    figures |= {
        "starts": int(ask("SELECT sum(start_char) FROM entities")),
        "ends": int(ask("SELECT sum(end_char) FROM entities")),
        "texts": ask("SELECT count(DISTINCT text) FROM entities"),
        "scores": round(ask("SELECT sum(CAST(score AS double)) FROM entities"), 3),
        "mentions": int(ask("SELECT sum(n_entities) FROM documents")),
    }
    return figures


def in_place(entities, last_commit):
    """How many current mentions have a document, and how many match its text at their offsets; Python counts code points too."""
    texts = dict(pandas.read_parquet(documents)[["id", "body"]].itertuples(index=False, name=None))
    joined = right = 0
    for doc_id, start, end, text, commit in entities:
        if doc_id in texts and commit <= last_commit:
            joined += 1
            right += texts[doc_id][start:end] == text
    return {"joined": joined, "in_place": right, "current_entities": joined}


# DuckDB: the files alone, then the log.
connection = duckdb.connect()
for table in TABLES:
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet({files(table)!r}, hive_partitioning = true)")
found["duckdb_files"] = by_sql(connection)

import duckdb_extension_delta  # noqa: F401, E402  (to find the extension in the package)

connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
extension = glob.glob(f"{duckdb_extension_delta.__path__[0]}/**/delta.duckdb_extension", recursive=True)[0]
connection.execute(f"LOAD '{extension}'")
for table in TABLES:
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM delta_scan('{store}/{table}')")
figures = by_sql(connection)
law = f"""SELECT count(*), count(*) FILTER (WHERE substr(body, start_char + 1, end_char - start_char) = text)
    FROM current_entities JOIN read_parquet('{documents}') ON doc_id = id"""
same = {}
# A view can use one that comes later in the list.
waiting = [json.loads(line) for line in open(views, encoding="utf-8")]
for _ in range(len(waiting)):
    for view in list(waiting):
        try:
            connection.execute(view["definition"])
        except duckdb.CatalogException:
            continue
        waiting.remove(view)
        same[view["table_name"]] = connection.execute(f"SELECT count(*) FROM {view['table_name']}").fetchone()[0] > 0
same |= {view["table_name"]: False for view in waiting}
figures["joined"], figures["in_place"] = connection.execute(law).fetchone()
figures["current_entities"] = connection.execute("SELECT count(*) FROM current_entities").fetchone()[0]
found["duckdb_delta"] = figures
# Each of our views works there and has rows.
found["duckdb_views"] = same

# delta-rs and engines that use it.
frames = {table: deltalake.DeltaTable(f"{store}/{table}") for table in TABLES}
last_commit = frames["documents"].to_pandas()["commit"].max()


def figures_of(count, column):
    figures = {table: count(table) for table in TABLES}
    starts, ends = column("entities", "start_char"), column("entities", "end_char")
    texts, scores = column("entities", "text"), column("entities", "score")
    figures |= {
        "starts": sum(starts),
        "ends": sum(ends),
        "texts": len(set(texts)),
        "scores": round(float(sum(float(score) for score in scores)), 3),
        "mentions": sum(column("documents", "n_entities")),
    }
    rows = zip(column("entities", "doc_id"), starts, ends, texts, column("entities", "commit"))
    return figures, rows


def add(name, count, column, law=True):
    figures, rows = figures_of(count, column)
    found[name] = figures | (in_place(rows, last_commit) if law else {})


pandas_frames = {table: frames[table].to_pandas() for table in TABLES}
add("deltalake", lambda table: len(pandas_frames[table]), lambda table, name: pandas_frames[table][name].tolist())
datasets = {table: frames[table].to_pyarrow_dataset().to_table() for table in TABLES}
add("pyarrow_delta", lambda table: datasets[table].num_rows, lambda table, name: datasets[table][name].to_pylist())
lazy = {table: polars.scan_delta(f"{store}/{table}").collect() for table in TABLES}
add("polars_delta", lambda table: lazy[table].height, lambda table, name: lazy[table][name].to_list())

# The files alone.
plain = {table: polars.read_parquet(files(table), hive_partitioning=True) for table in TABLES}
add("polars_files", lambda table: plain[table].height, lambda table, name: plain[table][name].to_list(), law=False)
folders = {table: pandas.read_parquet(f"{store}/{table}") for table in TABLES}
add("pandas_files", lambda table: len(folders[table]), lambda table, name: folders[table][name].tolist(), law=False)

json.dump(found, sys.stdout, default=int)
