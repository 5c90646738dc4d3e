//! What a fault in one task or its restart means for everybody else, with a whole service and planted faults.
//!
//! `RTCCTL_RESTARTS` says how often each task is restarted; the default is meant for every day.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/datagrams.rs"]
mod datagrams;
#[expect(dead_code, reason = "another test looks closer")]
#[path = "common/footprint.rs"]
mod footprint;
#[path = "common/scene.rs"]
mod scene;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rtcctl::control::client::ask;
use rtcctl::control::protocol::{Request, Response};
use rtcctl::guardian;
use rtcctl::supervisor::board::State;
use rtcctl::supervisor::events::EventKind;
use rtcctl::supervisor::faults::{Kind, Place};
use rtcctl::supervisor::policy::HANG_LIMIT;
use rtcctl::supervisor::service::TaskName;
use rtcctl::sys::clock;
use rustls::{ClientConnection, StreamOwned};

use datagrams::Datagrams;
use footprint::Footprint;
use scene::Scene;
use socket_io::Socket;
use stream_client::{StreamClient, connect, connect_tls};

/// Longer than any order takes.
const PATIENCE: Duration = Duration::from_secs(35);

type Secret = StreamClient<StreamOwned<ClientConnection, TcpStream>>;

fn now() -> Instant {
    clock::now().mono
}

fn get(port: u16, path: &str) -> String {
    let mut stream = connect_tls(port, &["http/1.1"]);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // It may be closed without the goodbye of TLS.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

fn passes_media(media: &mut [Secret; 2]) -> bool {
    media[0].send(b"media");
    media[1].receive() == b"media"
}

fn passes_messages(call: &mut [Socket; 2]) -> bool {
    call[0].send(7).unwrap();
    call[1].receive().unwrap() == 7
}

const OK: &str = "HTTP/1.1 200 OK";

#[test]
fn a_panic_in_each_task_is_one_restarted_task_whose_capsule_is_kept() {
    let scene = Scene::start();
    let mut media = scene.media();
    for (name, file) in [
        (TaskName::Certs, "certs/task.rs"),
        (TaskName::Web, "web/task.rs"),
        (TaskName::Signaling, "signaling/task.rs"),
        (TaskName::Turn, "turn/plane/"),
    ] {
        scene.plant(Place::Task(name), Kind::Panic);
        scene.until_restarted(name, 1);
        assert_eq!(scene.page(), OK);
        let task = scene.task(name);
        assert_eq!(task.last_error.as_ref().map(|why| why.english()), Some("panicked: a planted panic"));
        let panic = task.last_panic.unwrap();
        assert_eq!(panic.message, "a planted panic");
        assert!(panic.place.unwrap().contains("faults.rs:"));
        let events = scene.events();
        let event = events.iter().rfind(|event| event.kind == EventKind::Panic && event.task == Some(name)).unwrap();
        let capsule = event.capsule.clone().unwrap();
        assert!(capsule.backtrace.iter().any(|frame| frame.contains(file)), "{capsule:#?}");
        assert!(capsule.log.iter().any(|line| line.contains("a planted fault strikes")), "{capsule:#?}");
        let change = events.iter().rfind(|event| event.kind == EventKind::State && event.cause.contains("panicked"));
        assert_eq!(change.unwrap().to.as_deref(), Some("starting"));
        if name != TaskName::Turn {
            assert!(passes_media(&mut media), "a panic of {name} was noticed by media");
        }
    }
    assert!(scene.relays_by_udp());
    let restarts: Vec<u64> = scene.status().tasks.iter().map(|task| task.restarts).collect();
    assert_eq!(restarts, [1, 1, 1, 1]);
}

/// Allocations of the other workers are lost with the instance in any case: that they may end in peace is no reason to
/// refuse everybody meanwhile.
#[test]
fn when_one_worker_of_turn_panics_the_others_refuse_nobody_on_their_way_out() {
    let scene = Scene::start();
    let _media = scene.media();
    let credentials = scene.credentials();
    let server = (Ipv4Addr::LOCALHOST, scene.service.turn_port).into();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || {
            let mut served = 0;
            while !ends.load(Ordering::Relaxed) {
                let datagrams = Datagrams::connect(Ipv4Addr::LOCALHOST.into(), server).unwrap().impatient();
                let mut client = StreamClient::new(datagrams, credentials.clone());
                served += u32::from(matches!(client.try_allocate(), Ok(Some(_))));
            }
            served
        };
        // So many that some of them are on a worker that lives, and ask in vain.
        let clients: Vec<_> = std::iter::repeat_with(|| scope.spawn(ask)).take(8).collect();
        scene.plant(Place::Task(TaskName::Turn), Kind::Panic);
        scene.until_restarted(TaskName::Turn, 1);
        ends.store(true, Ordering::Relaxed);
        assert!(clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>() > 0);
    });
    assert_eq!(scene.status().turn.outcomes["no_capacity"], 0);
}

/// Plants a hang and sees that it is mended in time while the others serve, with what was prepared.
fn hang<T: Send>(
    name: TaskName,
    kind: Kind,
    prepare: impl FnOnce(&Scene) -> T,
    mut others_serve: impl FnMut(&Scene, &mut T),
) -> (Scene, T) {
    let scene = Scene::start();
    let mut prepared = prepare(&scene);
    scene.plant(Place::Task(name), kind);
    let begin = now();
    std::thread::scope(|scope| {
        let restarted = scope.spawn(|| scene.until_restarted(name, 1));
        while !restarted.is_finished() {
            others_serve(&scene, &mut prepared);
            std::thread::park_timeout(Duration::from_millis(50));
        }
        restarted.join().unwrap();
    });
    // It strikes within a second, and the machine is busy.
    assert!(now() - begin <= HANG_LIMIT + Duration::from_secs(3), "{:?}", now() - begin);
    let task = scene.task(name);
    assert_eq!((task.hangs, task.restarts), (1, 1));
    let capsule = scene.hang_capsule(name);
    assert!(capsule.threads.iter().any(|thread| thread.contains("of processor time")), "{capsule:#?}");
    assert!(capsule.log.iter().any(|line| line.contains("a planted fault strikes")), "{capsule:#?}");
    assert_eq!(scene.page(), OK);
    assert!(scene.relays_by_udp());
    assert!(passes_messages(&mut scene.call()));
    (scene, prepared)
}

#[test]
fn a_busy_loop_in_signaling_is_mended_while_https_answers_and_its_clients_are_free_by_then() {
    let prepare = |scene: &Scene| (scene.call(), scene.media());
    let (scene, (call, _)) = hang(TaskName::Signaling, Kind::Spin, prepare, |scene, (_, media)| {
        let begin = now();
        assert_eq!(scene.page(), OK);
        assert!(now() - begin < Duration::from_secs(2), "{:?}", now() - begin);
        assert!(passes_media(media));
    });
    for socket in call {
        let begin = now();
        socket.rest();
        assert!(now() - begin < Duration::from_secs(2), "it is left to its own patience");
    }
    // What cannot be ended has as little of the processor as there is.
    let capsule = scene.hang_capsule(TaskName::Signaling);
    let thread = capsule.threads.iter().find(|thread| thread.starts_with("signaling (thread ")).unwrap();
    let number = thread.split_once("(thread ").unwrap().1.split_once(')').unwrap().0;
    let stat = std::fs::read_to_string(format!("/proc/{}/task/{number}/stat", scene.status().pid)).unwrap();
    assert_eq!(stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16), Some("19"), "{stat}");
}

#[test]
fn a_deadlock_in_web_is_mended_while_calls_go_on() {
    let prepare = |scene: &Scene| (scene.call(), scene.media());
    hang(TaskName::Web, Kind::Deadlock, prepare, |_, (call, media)| {
        assert!(passes_messages(call) && passes_media(media));
    });
}

#[test]
fn a_busy_loop_in_a_worker_of_turn_is_mended_while_pages_and_calls_are_served() {
    let prepare = |scene: &Scene| (scene.call(), scene.media());
    let (_scene, (_, media)) = hang(TaskName::Turn, Kind::Spin, prepare, |scene, (call, _)| {
        assert_eq!(scene.page(), OK);
        assert!(passes_messages(call));
    });
    for mut client in media {
        let begin = now();
        assert!(client.try_receive().is_err(), "its allocation is gone");
        assert!(now() - begin < Duration::from_secs(2), "it is left to its own patience");
    }
}

#[test]
fn a_deadlock_in_certs_is_mended_and_noticed_by_nobody() {
    let prepare = |scene: &Scene| (scene.call(), scene.media());
    let (_scene, (mut call, mut media)) = hang(TaskName::Certs, Kind::Deadlock, prepare, |scene, (call, media)| {
        assert!(passes_messages(call) && passes_media(media));
        assert_eq!(scene.page(), OK);
    });
    assert!(passes_messages(&mut call) && passes_media(&mut media));
}

#[test]
fn an_executor_that_is_blocked_for_a_while_is_waited_for_and_the_others_serve() {
    let scene = Scene::start();
    let (mut call, mut media) = (scene.call(), scene.media());
    scene.plant(Place::Task(TaskName::Web), Kind::Block { seconds: 4 });
    let end = now() + Duration::from_secs(5);
    while now() < end {
        assert!(passes_messages(&mut call) && passes_media(&mut media));
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(scene.page(), OK);
    assert_eq!(scene.task(TaskName::Web).restarts, 0);
}

#[test]
fn each_restart_drops_what_is_its_task_s_and_nothing_more() {
    let scene = Scene::start();
    let (mut call, mut media) = (scene.call(), scene.media());
    // No client notices anything.
    for task in [TaskName::Certs, TaskName::Web] {
        scene.restart(task);
        assert!(passes_messages(&mut call), "{task}");
        assert!(passes_media(&mut media), "{task}");
    }
    scene.restart(TaskName::Signaling);
    assert!(passes_media(&mut media));
    assert_eq!(scene.page(), OK);
    for socket in call {
        assert!(socket.rest().iter().any(|event| event == "restarting"), "pages are told before they are cut");
    }
    let mut call = scene.call();
    assert_eq!(scene.status().calls.peers, 2);
    scene.restart(TaskName::Turn);
    assert!(passes_messages(&mut call));
    assert_eq!(scene.page(), OK);
    assert_eq!(scene.status().turn.allocations, 0);
    let mut next = scene.media();
    assert!(passes_media(&mut next));
    assert!(scene.status().tasks.iter().all(|task| task.restarts == 0), "what is ordered does not count");
}

#[test]
fn a_request_that_comes_while_its_task_restarts_waits_and_is_answered() {
    let scene = Scene::start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(scene.page(), OK, "after {count}");
                let handshake = get(scene.service.web_port, "/socket.io/?EIO=4&transport=polling");
                assert_eq!(handshake, OK, "after {count}");
                // Whose task it is in the end does not matter: nothing is refused.
                drop(connect(scene.service.turn_port));
                count += 1;
            }
            count
        });
        for _ in 0..10 {
            scene.restart(TaskName::Web);
            scene.restart(TaskName::Signaling);
            scene.restart(TaskName::Turn);
            scene.restart(TaskName::Certs);
        }
        done.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
}

#[test]
fn a_hundred_restarts_of_web_in_a_live_call_refuse_nobody_and_interrupt_nothing() {
    let scene = Scene::start();
    let (mut call, mut media) = (scene.call(), scene.media());
    let done = AtomicBool::new(false);
    let [asked, dropped, messages, packets] = [const { AtomicU64::new(0) }; 4];
    let is_done = || done.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !is_done() {
                // A connection that is refused ends the test.
                let is_answered = scene.page() == OK;
                asked.fetch_add(1, Ordering::Relaxed);
                dropped.fetch_add(u64::from(!is_answered), Ordering::Relaxed);
            }
        });
        let talking = scope.spawn(|| {
            while !is_done() {
                let number = messages.fetch_add(1, Ordering::Relaxed);
                call[0].send(number).unwrap();
                assert_eq!(call[1].receive().unwrap(), number);
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        let relaying = scope.spawn(|| {
            while !is_done() {
                let number = packets.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                media[0].send(&number);
                assert_eq!(media[1].receive(), number);
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        let threads = [asking, talking, relaying];
        let is_over = || threads.iter().any(std::thread::ScopedJoinHandle::is_finished);
        for round in 0..100 {
            // By order and by fault, in turns.
            if round % 10 == 9 {
                let before = scene.task(TaskName::Web).restarts;
                scene.plant(Place::Task(TaskName::Web), Kind::Panic);
                scene.until_restarted(TaskName::Web, before + 1);
            } else {
                scene.restart(TaskName::Web);
            }
            // The next one meets others under way.
            let counts = || [&asked, &messages, &packets].map(|counter| counter.load(Ordering::Relaxed));
            let before = counts();
            while counts().iter().zip(before).any(|(now, before)| *now == before) && !is_over() {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "100 restarts, 10 of them by a panic: {} pages asked for, 0 refused, {} dropped in flight; {} messages and {} \
         packets, 0 lost",
        count(&asked),
        count(&dropped),
        count(&messages),
        count(&packets)
    );
    assert!(count(&dropped) <= 10, "only a panic drops what is in flight, and there is one request at a time");
    assert!(count(&asked) >= 100 && count(&messages) >= 100 && count(&packets) >= 100);
}

/// Once what is on its way out has gone.
fn settled(pid: u32, wanted: Option<Footprint>) -> Footprint {
    Footprint::once(pid, Duration::from_secs(20), |found| {
        wanted.is_none_or(|wanted| found.descriptors <= wanted.descriptors && found.threads <= wanted.threads)
    })
}

fn restarts() -> u64 {
    std::env::var("RTCCTL_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[test]
fn after_many_restarts_descriptors_threads_and_memory_are_what_they_were() {
    let scene = Scene::start();
    let pid = scene.status().pid;
    for name in TaskName::ALL {
        // What is allocated once and kept is there by then.
        for _ in 0..20 {
            scene.restart(name);
        }
        let before = settled(pid, None);
        let begin = now();
        for round in 0..restarts() {
            if round % (restarts() / 10).max(1) == 0 {
                // A call and a session that comes to nothing, both cut short.
                let handshake = get(scene.service.web_port, "/socket.io/?EIO=4&transport=polling");
                assert_eq!(handshake, OK);
                scene.call();
            }
            scene.restart(name);
        }
        let took = now() - begin;
        let after = settled(pid, Some(before));
        println!("{name}: {} restarts in {took:?}: {before:?} became {after:?}", restarts());
        assert!(after.descriptors <= before.descriptors, "{name}: {before:?} became {after:?}");
        assert!(after.threads <= before.threads, "{name}: {before:?} became {after:?}");
        assert!(after.memory_kib <= before.memory_kib + 4096, "{name}: {before:?} became {after:?}");
    }
    let panics: Vec<_> = scene.events().into_iter().filter(|event| event.capsule.is_some()).collect();
    assert!(panics.is_empty(), "{panics:?}");
    assert_eq!(scene.status().state, State::Ready);
}

/// Runs a daemon whose end somebody waits for to start it anew, until what is planted ends it; why is what it says.
fn end_of_a_guarded_daemon(plant: impl FnOnce(&Scene), why: &str) {
    let scene = Scene::start();
    scene.service.run(&["stop"]);
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let ended = std::thread::scope(|scope| {
        let run = scope.spawn(|| scene.service.command(&["run"]).env("NOTIFY_SOCKET", &address).output().unwrap());
        let mut buffer = [0; 64];
        while !buffer.starts_with(b"READY=1") {
            manager.recv(&mut buffer).unwrap();
        }
        plant(&scene);
        run.join().unwrap()
    });
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(70), "{told}");
    assert!(told.contains(why), "{told}");
    let stopping = scene.events().into_iter().rfind(|event| event.to.as_deref() == Some("stopping")).unwrap();
    assert!(stopping.kind == EventKind::Daemon && stopping.cause.contains(why), "{stopping:?}");
}

#[test]
fn a_task_that_hangs_twice_in_a_row_ends_a_guarded_daemon() {
    let plant = |scene: &Scene| {
        scene.plant(Place::Task(TaskName::Certs), Kind::Deadlock);
        scene.until_restarted(TaskName::Certs, 1);
        scene.plant(Place::Task(TaskName::Certs), Kind::Deadlock);
    };
    end_of_a_guarded_daemon(plant, "certs hangs again and again");
}

#[test]
fn a_daemon_that_hangs_is_followed_by_another_although_its_guardian_is_not_its_parent() {
    let scene = Scene::start();
    let (daemon, guardian) = (scene.status().pid, guardian::report(&scene.home).unwrap().pid);
    let process = nix::unistd::Pid::from_raw(i32::try_from(guardian).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
    common::until("another guardian", PATIENCE, || {
        guardian::report(&scene.home).is_ok_and(|report| report.pid != guardian && report.state == State::Ready)
    });
    scene.plant(Place::Task(TaskName::Certs), Kind::Deadlock);
    scene.until_restarted(TaskName::Certs, 1);
    scene.plant(Place::Task(TaskName::Certs), Kind::Deadlock);
    common::until("another daemon", PATIENCE, || {
        let answer = ask(&scene.home, &Request::Status, PATIENCE);
        matches!(answer, Ok(Response::Status { status }) if status.pid != daemon && status.state == State::Ready)
    });
}

#[test]
fn a_loop_that_accepts_connections_and_hangs_ends_a_guarded_daemon() {
    end_of_a_guarded_daemon(|scene| scene.plant(Place::Edge, Kind::Spin), "edge hangs: the loop `edge-");
}

#[test]
fn for_a_test_of_endurance_a_task_may_fail_as_often_as_it_likes() {
    let scene = Scene::start();
    scene.service.run(&["stop"]);
    scene.service.run(&["start", "--endurance"]);
    // More than would have it held.
    for restarts in 1..=10 {
        scene.plant(Place::Task(TaskName::Certs), Kind::Panic);
        assert!(scene.until_restarted(TaskName::Certs, restarts) < Duration::from_secs(5));
    }
}

#[test]
fn without_any_certificate_pages_wait_for_one_and_the_relay_serves_by_udp() {
    let scene = Scene::start();
    scene.service.run(&["stop"]);
    let (certs, aside) = (scene.home.certs_dir(), scene.home.state_dir().join("aside"));
    std::fs::rename(&certs, &aside).unwrap();
    std::fs::File::create(&certs).unwrap();
    let told = scene.service.command(&["start"]).output().unwrap();
    let text = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(11), "{text}");
    assert!(text.contains("web: waits for a certificate: certs has not been ready yet"), "{text}");
    assert!(scene.relays_by_udp());
    let turn = scene.task(TaskName::Turn);
    assert_eq!(turn.state, State::Degraded);
    assert!(turn.last_error.unwrap().english().contains("TURN over TLS"));
    std::fs::remove_file(&certs).unwrap();
    std::fs::rename(&aside, &certs).unwrap();
    scene.service.run(&["start", "certs"]);
    for name in TaskName::ALL {
        scene.until_restarted(name, 0);
    }
    assert_eq!(scene.page(), OK);
    let waited = [scene.task(TaskName::Web), scene.task(TaskName::Signaling)];
    assert!(waited.iter().all(|task| task.restarts == 0), "waiting is no fault: {waited:?}");
}

#[test]
fn a_fault_can_be_planted_and_the_command_for_it_is_hidden() {
    let scene = Scene::start();
    scene.service.run(&["fault", "certs", "panic"]);
    scene.until_restarted(TaskName::Certs, 1);
    assert!(!scene.service.run(&["--help"]).contains("  fault"));
    assert!(scene.events().iter().any(|event| event.kind == EventKind::Fault));
}
