//! Full, read-only and failing disks, as a user sees them.
//!
//! The server has tiny segments on a small disk of its own. A test fills the disk, makes it
//! read-only, or makes it fail. What was accepted is there after every restart, with its exact
//! version; what was refused is nowhere. Everything else goes on, and events are accepted again
//! when the disk accepts them.
//!
//! `ext4` and `tmpfs` are mounted if the machine permits it. The limit on file sizes works on every
//! machine.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::disk::{Disk, Kind, say};
use support::http::Response;
use support::server::{Server, Setup, free_port};
use support::watch::Watcher;
use support::{batch, event, files, now, wait_for};

const EVERY_KIND: &[Kind] = &[Kind::Ext4, Kind::Tmpfs, Kind::Limit];
/// The kinds that are a file system.
const MOUNTED: &[Kind] = &[Kind::Ext4, Kind::Tmpfs];
/// Room for twice the reserve and some segments.
const DISK_MIB: u32 = 16;
/// Namespaces of a ledger: enough that each of two shards has several.
const NAMESPACES: u64 = 8;
/// Entities of a ledger; with their padding more than a limited file may hold.
const ENTITIES: u64 = 64;

fn setup(disk: &Disk, shards: u32) -> Setup {
    Setup::on(disk, shards).env("FLUX_SEGMENT_BYTES", "65536")
}

/// What was accepted.
#[derive(Default)]
struct Ledger {
    number: u64,
    /// Entity → the newest number, and how many there were.
    accepted: BTreeMap<String, (u64, u64)>,
}

impl Ledger {
    fn entity(number: u64) -> String {
        format!("full-{}/{}", number % NAMESPACES, number % ENTITIES)
    }

    fn next(&mut self) -> (String, String) {
        self.number += 1;
        let padding = "x".repeat(1000);
        let properties = format!(r#"{{"n":{},"p":"{padding}"}}"#, self.number);
        (Self::entity(self.number), properties)
    }

    fn note(&mut self, entity: String, number: u64) {
        let entry = self.accepted.entry(entity).or_default();
        *entry = (number, entry.1 + 1);
    }

    /// Publishes one event; returns the refusal, if any.
    fn try_publish(&mut self, server: &Server) -> Option<Response> {
        let (entity, properties) = self.next();
        let answer = server.post("/api/events", &event(&entity, &properties));
        if answer.status != 200 {
            return Some(answer);
        }
        self.note(entity, self.number);
        None
    }

    fn publish(&mut self, server: &Server, count: u64) {
        for _ in 0..count {
            if let Some(refused) = self.try_publish(server) {
                panic!("refused: {}", refused.text());
            }
        }
    }

    /// Publishes until each namespace was refused, with this code and no other.
    fn publish_until_refused(&mut self, (server, disk): (&Server, &Disk), code: &str) {
        let mut refused = BTreeSet::new();
        wait_for("the disk to be full", || {
            if let Some(answer) = self.try_publish(server) {
                let found = answer.expect_error(503, "an event that finds no room");
                assert_eq!(found, code, "{}", answer.text());
                assert!(answer.header("retry-after").is_some() || code == "storage_fault");
                refused.insert(self.number % NAMESPACES);
            } else if self.number.is_multiple_of(ENTITIES) && code == "storage_full" {
                disk.fill(server);
            }
            (refused.len() as u64 == NAMESPACES).then_some(())
        });
    }

    /// Publishes a batch with an event of each namespace and records what was accepted. Returns the
    /// codes of the rest.
    fn publish_batch(&mut self, server: &Server) -> Vec<String> {
        let first = self.number + 1;
        let events: Vec<String> = (0..NAMESPACES * 4)
            .map(|_| self.next())
            .map(|(entity, properties)| event(&entity, &properties))
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        if answer.status != 200 {
            // None of it could be taken.
            let code = answer.expect_error(503, "a batch that finds no room");
            return vec![code; events.len()];
        }
        let answer = answer.json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), events.len());
        let mut codes = Vec::new();
        for (number, result) in (first..).zip(results) {
            match result["code"].as_str() {
                Some(code) => codes.push(code.to_owned()),
                None => self.note(Self::entity(number), number),
            }
        }
        assert_eq!(answer["failed"], codes.len());
        codes
    }

    /// Expects the state to be exactly what was accepted.
    fn check(&self, server: &Server) {
        let listed = server.get("/api/state/entities?prefix=full-").json();
        let found: BTreeMap<String, (u64, u64)> = listed
            .as_array()
            .expect("an array")
            .iter()
            .map(|entity| {
                let number = |value: &Value| value.as_u64().expect("a number");
                let id = entity["id"].as_str().expect("an id").to_owned();
                let n = number(&entity["properties"]["n"]);
                (id, (n, number(&entity["version"])))
            })
            .collect();
        assert_eq!(found, self.accepted, "{}", server.said());
    }
}

/// Lines of what a server said that contain this.
fn count_said(server: &Server, what: &str) -> usize {
    let said = server.said();
    said.lines().filter(|line| line.contains(what)).count()
}

/// Checks everything that needs no room.
fn check_reads(server: &Server, ledger: &Ledger, watcher: &mut Watcher) {
    ledger.check(server);
    let (entity, (number, count)) = ledger.accepted.iter().next().expect("an entity");
    let one = server.entity(entity);
    assert_eq!(one.json()["properties"]["n"], json!(number));
    let history = server.get(&format!("/api/events?entity={entity}&limit=500"));
    let history = history.json();
    let events = history.as_array().expect("an array");
    assert_eq!(events.len() as u64, *count);
    let first = events.last().expect("an event");
    let at = first["acceptedAt"].as_str().expect("a time");
    let past = server.get(&format!("/api/state/entities/{entity}?at={at}"));
    assert_eq!(past.json()["version"], 1, "{}", past.text());
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ready").status, 200);
    watcher.send(r#"{"type":"ping"}"#);
    assert_eq!(watcher.next()["type"], "pong");
    watcher.subscribe(entity);
    watcher.unsubscribe(entity);
}

/// With room again, each shard accepts events, and subscribers see them.
fn check_accepting(server: &Server, ledger: &mut Ledger, watcher: &mut Watcher) {
    // As large as the refused ones: a smaller event may fit when they do not.
    let value = "x".repeat(1000);
    for namespace in 0..NAMESPACES {
        let id = format!("again-{namespace}/e");
        wait_for("events to be accepted again", || {
            let answer = server.post("/api/events", &event(&id, &json!({"p": value}).to_string()));
            (answer.status == 200).then_some(())
        });
        let pushed = watcher.changes(1);
        assert_eq!(
            (pushed[0].0.as_str(), &pushed[0].2),
            (id.as_str(), &json!(value))
        );
    }
    ledger.publish(server, 2 * ENTITIES);
}

#[test]
fn a_full_disk_refuses_events_serves_the_rest_and_takes_events_again_when_there_is_room() {
    for shards in [1, 2] {
        Disk::each(DISK_MIB, EVERY_KIND, |disk| {
            let setup = setup(disk, shards);
            let server = setup.start();
            let mut ledger = Ledger::default();
            ledger.publish(&server, ENTITIES);
            let mut watcher = Watcher::connect(&server);
            watcher.subscribe("again*");
            disk.fill(&server);
            ledger.publish_until_refused((&server, disk), "storage_full");
            let codes: BTreeSet<String> = ledger.publish_batch(&server).into_iter().collect();
            assert_eq!(codes, BTreeSet::from(["storage_full".to_owned()]));
            check_reads(&server, &ledger, &mut watcher);

            disk.free(&server);
            check_accepting(&server, &mut ledger, &mut watcher);
            assert!(ledger.publish_batch(&server).is_empty());
            ledger.check(&server);
            assert!(server.said().contains("events are accepted again"));
            drop(watcher);
            server.stop();
            ledger.check(&setup.start());
        });
    }
}

#[test]
fn a_checkpoint_without_room_is_said_once_disturbs_nothing_and_comes_when_there_is_room() {
    Disk::each(DISK_MIB, EVERY_KIND, |disk| {
        let server = setup(disk, 1).env("FLUX_CHECKPOINT_SECONDS", "2").start();
        let mut ledger = Ledger::default();
        disk.fill(&server);
        ledger.publish_until_refused((&server, disk), "storage_full");
        let warning = "could not write a checkpoint";
        wait_for("the warning", || {
            // A checkpoint may fit in space that was freed since. Then the next, larger one does
            // not.
            disk.fill(&server);
            drop(ledger.try_publish(&server));
            (count_said(&server, warning) > 0).then_some(())
        });

        // Six metrics messages take twelve seconds, longer than any pause between two attempts.
        let mut watcher = Watcher::connect_to(&server, "/api/ws");
        for _ in 0..6 {
            while watcher.next_of_any_type()["type"] != "metrics_update" {}
        }
        check_reads(&server, &ledger, &mut watcher);
        assert_eq!(count_said(&server, warning), 1, "{}", server.said());
        assert_eq!(count_said(&server, "can't prepare"), 1, "{}", server.said());

        disk.free(&server);
        wait_for("a checkpoint", || {
            let named = files(&disk.seen().join("data/checkpoints"), ".manifest");
            (!named.is_empty()).then_some(())
        });
        ledger.check(&server);
    });
}

#[test]
fn a_stop_and_a_kill_on_a_full_disk_lose_nothing_and_the_next_start_serves() {
    for stop in [true, false] {
        Disk::each(DISK_MIB, EVERY_KIND, |disk| {
            let setup = setup(disk, 2);
            let mut server = setup.start();
            let mut ledger = Ledger::default();
            // Once with the reserve, once without: a start on a full disk does not get it back.
            for _ in 0..2 {
                ledger.publish(&server, 1);
                disk.fill(&server);
                ledger.publish_until_refused((&server, disk), "storage_full");
                if stop {
                    server.stop();
                } else {
                    server.kill();
                }
                if disk.kind != Kind::Limit {
                    disk.fill_up();
                }
                server = setup.start();
                ledger.check(&server);
                disk.fill(&server);
                ledger.publish_until_refused((&server, disk), "storage_full");
                let mut watcher = Watcher::connect(&server);
                check_reads(&server, &ledger, &mut watcher);
                watcher.subscribe("again*");
                disk.free(&server);
                check_accepting(&server, &mut ledger, &mut watcher);
            }
        });
    }
}

/// The entities that expire, one in each namespace of a ledger.
fn leases() -> impl Iterator<Item = String> {
    (0..NAMESPACES).map(|namespace| format!("full-{namespace}/lease"))
}

/// Fills the disk, with entities on it that expire after so many seconds. False if some had
/// expired before it was full.
fn fill_around_leases((server, disk): (&Server, &Disk), ledger: &mut Ledger, ttl: u32) -> bool {
    for id in leases() {
        let body = event(&id, &json!({ "n": 1 }).to_string());
        let body = body.replace(r#""properties""#, &format!(r#""ttl":{ttl},"properties""#));
        // After an earlier attempt each shard finds out by itself that there is room again.
        wait_for("room for a lease", || {
            (server.post("/api/events", &body).status == 200).then_some(())
        });
    }
    disk.fill(server);
    ledger.publish_until_refused((server, disk), "storage_full");
    // A tombstone is small, and might find room where those events found none.
    for namespace in 0..NAMESPACES {
        let small = event(&format!("rest-{namespace}/e"), "{}");
        wait_for("no room for a small event", || {
            (server.post("/api/events", &small).status == 503).then_some(())
        });
    }
    leases().all(|id| server.entity(&id).status == 200)
}

#[test]
fn what_expires_on_a_full_disk_stays_until_there_is_room_and_then_ends() {
    Disk::each(DISK_MIB, EVERY_KIND, |disk| {
        let setup = setup(disk, 2);
        let server = setup.start();
        let mut ledger = Ledger::default();
        let mut ttl = 4;
        while !fill_around_leases((&server, disk), &mut ledger, ttl) {
            assert!(ttl < 16, "the disk is never full in time");
            disk.free(&server);
            ttl *= 2;
            wait_for("room", || {
                ledger.try_publish(&server).is_none().then_some(())
            });
        }
        let over = now() + Duration::from_secs(u64::from(ttl) + 2);
        wait_for("their time to be over", || (now() >= over).then_some(()));
        for id in leases() {
            assert_eq!(
                server.entity(&id).status,
                200,
                "{id}: readers see what the log says"
            );
        }
        assert_eq!(server.get("/ready").status, 200);
        disk.free(&server);
        for id in leases() {
            wait_for("an entity to expire", || {
                (server.entity(&id).status == 404).then_some(())
            });
        }
        let check = |server: &Server| {
            for id in leases() {
                assert_eq!(server.entity(&id).status, 404, "{id}");
                let rows = server.get(&format!("/api/events?entity={id}")).json();
                let rows = rows.as_array().expect("rows");
                assert_eq!(rows[0]["stream"], "flux.expire", "{id}: it ends once");
                assert_ne!(rows[1]["stream"], "flux.expire", "{id}: it ends once");
            }
            ledger.check(server);
        };
        check(&server);
        server.kill();
        check(&setup.start());
    });
}

#[test]
fn what_needs_a_new_log_refuses_to_start_on_a_full_disk_and_says_why_in_one_line() {
    Disk::each(DISK_MIB, MOUNTED, |disk| {
        disk.fill_up();
        check_refused(&setup(disk, 1), "no space");
        disk.free_up();
        let server = setup(disk, 1).start();
        let mut ledger = Ledger::default();
        ledger.publish(&server, ENTITIES);
        server.kill();
        disk.fill_up();
        check_refused(&setup(disk, 2), "no space");
        // With the former number of shards it serves. With room it starts with the other number.
        ledger.check(&setup(disk, 1).start());
        disk.free_up();
        ledger.check(&setup(disk, 2).start());
    });
}

#[test]
fn a_read_only_disk_is_refused_at_start() {
    Disk::each(DISK_MIB, MOUNTED, |disk| {
        let server = setup(disk, 1).start();
        let mut ledger = Ledger::default();
        ledger.publish(&server, ENTITIES);
        let read_only = "mount -o remount,bind,ro \"$DISK\"";
        let busy = disk.run(&format!("mount -o remount,ro \"$DISK\" || {read_only}"));
        assert!(
            busy.is_err(),
            "a disk with open files can't be made read-only"
        );
        server.kill();
        wait_for("the disk to be idle", || disk.run(read_only).ok());
        check_refused(&setup(disk, 1), "not permitted");
        disk.run("mount -o remount,bind,rw \"$DISK\"")
            .expect("it was writable");
        ledger.check(&setup(disk, 1).start());
    });
}

/// A start that is refused with one line that names a file of the data directory and the reason.
fn check_refused(setup: &Setup, reason: &str) {
    let output = setup.run(free_port());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("/disk/data") && said.contains(reason),
        "{said}"
    );
}

/// While a server runs nobody can make its disk read-only, because files are open for writing. A
/// read-only mount on top of the log's directory refuses the same operations.
#[test]
fn a_directory_that_turns_read_only_refuses_events_and_takes_them_again_when_it_is_writable() {
    Disk::each(DISK_MIB, MOUNTED, |disk| {
        let server = setup(disk, 1).start();
        let mut ledger = Ledger::default();
        ledger.publish(&server, ENTITIES);
        let mut watcher = Watcher::connect(&server);
        watcher.subscribe("again*");
        let log = "LOG=$DISK/data/log/000001/000-of-001 ASIDE=$IMAGE.aside";
        // The mount is made elsewhere, because open files would forbid it here. A mount of a
        // read-only mount is read-only from its first moment.
        disk.run(&format!(
            "{log}; mkdir \"$ASIDE\" && mount --bind \"$LOG\" \"$ASIDE\" \
             && mount -o remount,bind,ro \"$ASIDE\" && mount --bind \"$ASIDE\" \"$LOG\""
        ))
        .expect("a bind mount");
        ledger.publish_until_refused((&server, disk), "storage_read_only");
        check_reads(&server, &ledger, &mut watcher);
        assert_eq!(count_said(&server, "can't prepare"), 1, "{}", server.said());

        // Lazily, because the server flushes files that it opened through this mount.
        disk.run(&format!("{log}; umount -l \"$LOG\" && umount \"$ASIDE\""))
            .expect("a mount");
        check_accepting(&server, &mut ledger, &mut watcher);
        ledger.check(&server);
        drop(watcher);
        server.stop();
        ledger.check(&setup(disk, 1).start());
    });
}

/// Publishers go on, so space that is freed for retention would be gone at once if the log could
/// take it.
#[test]
fn retention_frees_a_full_disk_by_itself_under_load() {
    for shards in [1, 2] {
        Disk::each(DISK_MIB, MOUNTED, |disk| {
            let setup = setup(disk, shards)
                .env("FLUX_RETENTION_SECONDS", "3")
                .env("FLUX_CHECKPOINT_SECONDS", "86400");
            let server = setup.start();
            let mut ledger = Ledger::default();
            // Two MiB of log: more than a checkpoint and a base take.
            for _ in 0..2048 / (4 * NAMESPACES) {
                assert!(ledger.publish_batch(&server).is_empty());
            }
            disk.fill(&server);
            let log = disk.seen().join("data/log");
            wait_for("the disk to be full", || {
                let codes = ledger.publish_batch(&server);
                assert!(codes.iter().all(|code| code == "storage_full"), "{codes:?}");
                codes.first().map(|_| ())
            });
            let before = files(&log, ".seg").len();
            wait_for("retention to make room", || {
                ledger.publish_batch(&server);
                (files(&log, ".seg").len() < before / 2).then_some(())
            });
            for _ in 0..50 {
                wait_for("room", || {
                    ledger.publish_batch(&server).is_empty().then_some(())
                });
            }
            ledger.check(&server);
            server.stop();
            ledger.check(&setup.start());
        });
    }
}

/// Lets the disk fail: the kernel's own answer to an error of `ext4` is to end the journal and make
/// the disk read-only, so that what comes next can't be written. False if the machine does not
/// permit that.
fn fail(disk: &mut Disk) -> bool {
    let trigger = "DEV=$(findmnt -n -o SOURCE \"$DISK\"); \
        echo failing > /sys/fs/ext4/${DEV##*/}/trigger_fs_error";
    let failed = disk.run(trigger);
    if let Err(why) = &failed {
        say(&format!(
            "an error of the disk could not be had here: {why}"
        ));
    }
    failed.is_ok()
}

#[test]
fn what_cannot_be_written_is_acknowledged_to_nobody_in_async_either() {
    Disk::each(DISK_MIB, &[Kind::Ext4], |disk| {
        let server = setup(disk, 2).durability("async").start();
        let mut ledger = Ledger::default();
        ledger.publish(&server, ENTITIES);
        if !fail(disk) {
            return;
        }
        // The first events of each shard meet the fault: they are refused, or their connections
        // closed.
        let mut closed = 0;
        for number in 0..NAMESPACES * 4 {
            let doubted = event(&format!("doubt-{number}/it"), "{}");
            let answer = server
                .connect()
                .try_request("POST", "/api/events", &doubted);
            match answer {
                Ok(answer) => assert_eq!(
                    answer.expect_error(503, "an event that can't be written"),
                    "storage_fault"
                ),
                Err(_) => closed += 1,
            }
        }
        assert!(closed <= 2, "{closed} without an answer");
        let found_out = count_said(&server, ": append to ") + count_said(&server, ": flush failed");
        assert_eq!(found_out, 2, "{}", server.said());
        // Events from before are still served.
        ledger.check(&server);
    });
}

#[test]
fn a_failed_write_stops_acknowledgements_until_the_disk_is_mended_and_the_server_restarted() {
    Disk::each(DISK_MIB, &[Kind::Ext4], |disk| {
        let mut server = setup(disk, 1).start();
        let mut ledger = Ledger::default();
        ledger.publish(&server, ENTITIES);
        if !fail(disk) {
            return;
        }
        // One event is in doubt and gets no answer. After it none is accepted.
        let doubted = server.post("/api/events", &event("doubt/it", "{}"));
        assert_eq!(
            doubted.expect_error(503, "an event that can't be written"),
            "storage_fault"
        );
        ledger.publish_until_refused((&server, disk), "storage_fault");
        assert!(
            ledger
                .publish_batch(&server)
                .iter()
                .all(|code| code == "storage_fault")
        );
        let mut watcher = Watcher::connect(&server);
        check_reads(&server, &ledger, &mut watcher);
        assert_eq!(count_said(&server, ": append to "), 1, "{}", server.said());
        drop(watcher);
        server.signal("TERM");
        let status = server.wait();
        assert_eq!(status.code(), Some(1), "nothing was closed in order");
        drop(server);

        disk.unmount();
        disk.mount().expect("the journal is replayed");
        ledger.check(&setup(disk, 1).start());
    });
}
