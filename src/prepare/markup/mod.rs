//! Formats that mark mentions inside or beside marked-up text. In: XML and SGML files. Out: documents with mentions.
//!
//! | file | format |
//! |---|---|
//! | [`ace`] | ACE 2004 and 2005 |
//! | [`bbn`] | BBN's inline XML |
//! | [`genia`] | GENIA's XML |
//! | [`ontonotes`] | OntoNotes 5 `.name` files |
//! | [`inline`] | tags in running text → sentences |
//! | [`xml`] | XML → pieces with line numbers |

pub(crate) mod ace;
pub(crate) mod bbn;
pub(crate) mod genia;
pub(crate) mod inline;
pub(crate) mod ontonotes;
pub(crate) mod xml;
