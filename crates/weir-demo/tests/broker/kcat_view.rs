//! The embedded broker as `kcat` sees it. `kcat` missing is a failure.

use std::collections::BTreeSet;

use crate::kcat::Kcat;
use crate::support::{self, start_broker};

#[tokio::test(flavor = "multi_thread")]
async fn metadata_lists_broker_and_topics() {
    let broker = start_broker(|o| o.topics = vec![("events.raw".to_owned(), 3)]).await;
    let listing = Kcat::new(&broker.address).run(&["-L"], "").await;
    assert!(listing.contains(&format!("broker 1 at {}", broker.address)), "{listing}");
    assert!(listing.contains(r#"topic "events.raw" with 3 partitions"#), "{listing}");
    let asked = Kcat::new(&broker.address).run(&["-L", "-t", "made.by.asking"], "").await;
    assert!(asked.contains(r#"topic "made.by.asking" with 4 partitions"#), "{asked}");
    let refused = Kcat::new(&broker.address).run(&["-L", "-t", "no such/name"], "").await;
    assert!(refused.contains("Invalid topic"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time() {
    let broker = start_broker(|o| o.topics = vec![("t".to_owned(), 1)]).await;
    let kcat = Kcat::new(&broker.address);
    kcat.run(&["-P", "-t", "t"], "a\nb\n").await;
    // Wall time has to pass between the two: kcat stamps its records itself.
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let between = support::unix_ms();
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    kcat.run(&["-P", "-t", "t", "-z", "gzip"], "c\nd\n").await;
    let since = kcat.run(&["-C", "-t", "t", "-e", "-q", "-o", &format!("s@{between}"), "-f", "%o %s\\n"], "").await;
    assert_eq!(since, "2 c\n3 d\n");
    let until = kcat
        .run(&["-C", "-t", "t", "-e", "-q", "-o", "beginning", "-o", &format!("e@{between}"), "-f", "%o %s\\n"], "")
        .await;
    assert_eq!(until, "0 a\n1 b\n");
    let looked_up = kcat.run(&["-Q", "-t", &format!("t:0:{between}")], "").await;
    assert_eq!(looked_up.trim(), "t [0] offset 2");
    let none_later = kcat.run(&["-Q", "-t", &format!("t:0:{}", support::unix_ms() + 60_000)], "").await;
    assert_eq!(none_later.trim(), "t [0] offset -1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_resumes_where_it_committed() {
    let broker = start_broker(|o| o.topics = vec![("t".to_owned(), 2)]).await;
    let kcat = Kcat::new(&broker.address);
    let lines = |from: usize| (from..from + 50).map(|n| format!("{n}\n")).collect::<String>();
    kcat.run(&["-P", "-t", "t", "-p", "-1"], &lines(0)).await;
    let group = ["-G", "watchers", "-e", "-q", "-X", "auto.offset.reset=earliest", "-f", "%s\\n", "t"];
    let started = std::time::Instant::now();
    let first = kcat.run(&group, "").await;
    assert!(started.elapsed().as_secs() < 5, "a first join takes {:?}", started.elapsed());
    kcat.run(&["-P", "-t", "t", "-p", "-1"], &lines(50)).await;
    let second = kcat.run(&group, "").await;
    let numbers = |text: &str| text.lines().map(|l| l.parse::<usize>().unwrap()).collect::<BTreeSet<_>>();
    assert_eq!(numbers(&first), (0..50).collect());
    assert_eq!(numbers(&second), (50..100).collect());
}

/// Nanoseconds this thread has run.
fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// On one thread with the broker, so that this thread's time is the broker's.
#[tokio::test(flavor = "current_thread")]
async fn waiting_clients_cost_next_to_nothing() {
    let broker = start_broker(|o| o.topics = vec![("t".to_owned(), 4)]).await;
    let kcat = Kcat::new(&broker.address);
    let members: Vec<_> = (0..3).map(|_| kcat.spawn(&["-G", "idle", "-q", "t"])).collect();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let before = thread_cpu_ns();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let used_ms = (thread_cpu_ns() - before) / 1_000_000;
    for member in members {
        member.kill().await;
    }
    // Three members fetch twice and beat a third of a time each second: some 30 requests.
    assert!(used_ms < 120, "{used_ms} ms of 4000 went into doing nothing");
}
