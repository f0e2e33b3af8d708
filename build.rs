//! With the feature `train` the program remembers where the LibTorch lies that it was built with, so that the loader finds it; a
//! folder `lib` beside the program and `LD_LIBRARY_PATH` go first.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if std::env::var_os("CARGO_FEATURE_TRAIN").is_none() {
        return;
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib");
    let library = std::env::var_os("LIBTORCH").map(|folder| std::path::Path::new(&folder).join("lib/libtorch_cpu.so"));
    // A link into the cache is followed: LibTorch looks for its own libraries beside the real file.
    if let Some(folder) =
        library.and_then(|path| path.canonicalize().ok()).and_then(|path| path.parent().map(ToOwned::to_owned))
    {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}
