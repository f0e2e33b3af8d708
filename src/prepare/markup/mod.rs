//! Formats with mentions inside marked-up text or in a file next to it. In: XML and SGML files. Out: documents with mentions. It must
//! not change an offset.
//!
//! | file | format |
//! |---|---|
//! | [`ace`] | ACE 2004 and 2005 |
//! | [`bbn`] | BBN's inline XML |
//! | [`genia`] | GENIA's XML |
//! | [`ontonotes`] | OntoNotes 5 `.name` files |
//! | [`inline`] | inline tags → sentences |
//! | [`xml`] | XML → pieces with line numbers |

pub(crate) mod ace;
pub(crate) mod bbn;
pub(crate) mod genia;
pub(crate) mod inline;
pub(crate) mod ontonotes;
pub(crate) mod xml;
