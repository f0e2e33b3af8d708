//! What goes wrong with one executor while the others work: the tables are those of a local run.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Cluster, Special, assert_rows, free_port};
use crate::promises::{SmallDisk, corpus, job, rows};
use crate::support::{Dir, Random, until};

/// A way to the scheduler that can be cut: connections stay, and nothing passes any more.
struct Way {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Way {
    fn to(scheduler: u16) -> Self {
        let (port, cut) = (free_port(), Arc::<AtomicBool>::default());
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let of_connections = Arc::clone(&cut);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(("127.0.0.1", scheduler))) else { continue };
                for (from, to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))] {
                    let cut = Arc::clone(&of_connections);
                    std::thread::spawn(move || pass(from.unwrap(), to.unwrap(), &cut));
                }
            }
        });
        Self { port, cut }
    }

    fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

/// Passes bytes on, except while the way is cut.
fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = [0; 8192];
    while let Ok(count) = from.read(&mut bytes) {
        while cut.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other side may have ended already.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn executors_that_are_slow_cut_off_or_full_lose_nothing() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 4000, &mut Random(31));
    let model = dir.small_model().display().to_string();
    let job = |store: &str| job(&dir, "docs.parquet", store, &model, "");
    dir.quarry(&["run", &job("local")]).ended(0);
    let expected = rows(&dir, "local");
    let same = |store: &str| assert_rows(&expected, &rows(&dir, store), store);
    let commits = |store: &str| dir.path(store).join("documents/_delta_log/00000000000000000002.json").exists();
    let mut cluster = Cluster::new(&dir, 1);

    // One that takes three seconds more for a chunk.
    cluster.add(&Special { fault: Some("slow:3"), ..Special::default() });
    cluster.wait_for(2);
    cluster.ended(cluster.run(&job("slow")), 0);
    same("slow");
    cluster.stop(1, 1);

    // One that the scheduler hears no more, nor it the scheduler.
    let way = Way::to(cluster.port);
    cluster.add(&Special { through: Some(way.port), fault: Some("slow:1"), ..Special::default() });
    cluster.wait_for(2);
    let driver = cluster.run(&job("cut"));
    until("two commits are done", || commits("cut"));
    way.set_cut(true);
    cluster.ended(driver, 0);
    same("cut");
    cluster.wait_for(1);
    way.set_cut(false);
    cluster.wait_for(2);
    cluster.stop(1, 1);

    // One whose disk has no room for what the driver fetches: it ends.
    let Some(disk) = SmallDisk::mount(dir.path("full"), "size=4k") else {
        eprintln!("skipped: this user may not mount a tmpfs");
        return;
    };
    cluster.add(&Special { folder: Some(&dir.path("full")), ..Special::default() });
    cluster.wait_for(2);
    cluster.ended(cluster.run(&job("on-a-full-disk")), 0);
    same("on-a-full-disk");
    assert_eq!(cluster.executors[1].wait().unwrap().code(), Some(2));
    drop(cluster);
    drop(disk);
}

#[test]
fn a_driver_needs_no_device_of_the_job() {
    let dir = Dir::new();
    corpus(&dir, "docs.parquet", 0, 100, &mut Random(32));
    let model = dir.small_model().display().to_string();
    let local = job(&dir, "docs.parquet", "local", &model, "");
    dir.quarry(&["run", &local]).ended(0);
    let mut cluster = Cluster::new(&dir, 0);
    cluster.add(&Special { device: Some("cpu,cpu"), ..Special::default() });
    cluster.wait_for(1);
    // No machine has it.
    let text = std::fs::read_to_string(job(&dir, "docs.parquet", "there", &model, "")).unwrap();
    let there = dir.write("there.toml", &text.replace("device = 'cpu'", "device = 'cuda:97'")).display().to_string();
    cluster.ended(cluster.run(&there), 0);
    assert_rows(&rows(&dir, "local"), &rows(&dir, "there"), "there");
    assert_eq!(dir.rows("there", "runs", "device, precision, outcome", ""), ["cpu,cpu|fp32|done"]);
}
