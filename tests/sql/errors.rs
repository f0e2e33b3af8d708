//! Invalid queries and stores, and their error messages.

use insta::assert_snapshot;

use super::{TEXTS, ask};
use crate::support::Dir;

#[test]
fn errors_show_where_and_the_way_out() {
    let error = |sql: &str| ask(&[sql]).ended(1).error();
    assert_snapshot!(error("SELECT * FROM entitis"), @r##"
    error: cannot answer the query: there is no table or view `entitis`
        |
      1 | SELECT * FROM entitis
        |               ^^^^^^^
    hint: did you mean `entities`?
    "##);
    assert_snapshot!(error("SELECT 1;\nSELECT txt, score\nFROM entities"), @r##"
    error: cannot answer the query: there is no column `txt`
        |
      2 | SELECT txt, score
        |        ^^^
    hint: did you mean `text`?
    "##);
    assert_snapshot!(error("SELECT * FORM entities"), @r##"
    error: cannot answer the query: end of statement is expected, not `FORM`
        |
      1 | SELECT * FORM entities
        |          ^^^^
    hint: did you mean FROM?
    "##);
    assert_snapshot!(error("SELECT e.txt FROM entities e"), @r##"
    error: cannot answer the query: `e` has no column `txt`
        |
      1 | SELECT e.txt FROM entities e
        |        ^^^^^
    hint: did you mean `text`?
    "##);
    assert_snapshot!(error("SELECT count(* FROM entities"), @r##"
    error: cannot answer the query: `)` is expected, not `FROM`
        |
      1 | SELECT count(* FROM entities
        |                ^^^^
    "##);
    assert_snapshot!(error("SELECT 'it"), @r##"
    error: cannot answer the query: unterminated string literal
        |
      1 | SELECT 'it
        |        ^
    "##);
    assert_snapshot!(error("SELECT cuont(*) FROM entities"), @r##"
    error: cannot answer the query: invalid function 'cuont'
        |
      1 | SELECT cuont(*) FROM entities
        |        ^^^^^
    hint: did you mean 'cot'?
    "##);
    assert_snapshot!(error("SELECT text FROM entities GROUP BY doc_id"), @r##"
    error: cannot answer the query: 'entities.text' must appear in GROUP BY clause because it's not an aggregate expression
        |
      1 | SELECT text FROM entities GROUP BY doc_id
        |        ^^^^
    hint: Either add 'entities.text' to GROUP BY clause, or use an aggregate function like ANY_VALUE(entities.text)
    "##);
    assert_snapshot!(error("SELECT * FROM 'none.parquet'"), @r##"
    error: cannot answer the query: cannot use the files at `none.parquet`: there is no such file or folder
    hint: name a file, a folder, a glob, or a URL that begins with s3://, gs:// or az://
    "##);
    assert_snapshot!(error("DROP TABLE entities"), @r##"
    error: cannot answer the query: `entities` belongs to the store, which is read-only here
    "##);
    assert_snapshot!(error("INSERT INTO metrics VALUES ('a', 'b', 'c', 1.0, 'd')"), @r##"
    error: cannot answer the query: `metrics` belongs to the store, which is read-only here
    "##);
    assert_snapshot!(error("\\dx"), @r##"
    error: sql: `\dx`: there is no such command
    hint: \? lists them
    "##);
    assert_snapshot!(ask(&["SELECT 1", "--format", "parquet"]).ended(1).error(), @r##"
    error: sql: `out`: Parquet output needs a file
    hint: use --out FILE, or \o FILE in the shell
    "##);
}

#[test]
fn a_store_that_is_not_there() {
    let dir = Dir::new();
    assert_snapshot!(dir.quarry(&["sql", "none", "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/none/` does not exist
    hint: check the path; `quarry run` creates a store
    "##);
    dir.write("other/file.txt", "no store");
    assert_snapshot!(dir.quarry(&["sql", "other", "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/other/` has no table `runs`
    hint: check the path; `quarry run` makes a store where there is none
    "##);
    dir.documents("docs.parquet", &TEXTS);
    let job = dir.job("docs.parquet", "store", "").display().to_string();
    assert_snapshot!(dir.quarry(&["sql", &job, "SELECT 1"]).ended(1).error(), @r##"
    error: the store `DIR/store/` does not exist
    hint: run the job with `quarry run` first
    "##);
}
