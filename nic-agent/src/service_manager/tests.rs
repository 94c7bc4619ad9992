use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Mutex;

use super::*;

fn recorder(watchdog: Option<Duration>) -> (ServiceManager, Arc<Mutex<Vec<String>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&sent);
    let send = move |states: &[NotifyState<'_>]| {
        record.lock().unwrap().extend(states.iter().map(ToString::to_string));
        Ok(())
    };
    (ServiceManager { send: Arc::new(send), watchdog }, sent)
}

#[tokio::test(start_paused = true)]
async fn keep_alive_follows_the_heartbeat() {
    let (manager, sent) = recorder(Some(Duration::from_secs(30)));
    let heartbeat = Heartbeat::new(Duration::from_secs(20));
    let cancel = CancellationToken::new();
    let watchdog = tokio::spawn({
        let (heartbeat, cancel) = (heartbeat.clone(), cancel.clone());
        async move { manager.run_watchdog(Hearts::default().with("loop", heartbeat), cancel).await }
    });
    let count = || sent.lock().unwrap().iter().filter(|state| *state == "WATCHDOG=1").count();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        heartbeat.tick();
    }
    let beating = count();
    assert!(beating >= 6, "{beating} keep-alives in a minute of 10 s intervals");
    tokio::time::sleep(Duration::from_secs(25)).await;
    let stopped = count();
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(count(), stopped, "a loop that stands still keeps nothing alive");
    heartbeat.tick();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(count() > stopped, "a loop that moves again does");
    cancel.cancel();
    watchdog.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn any_loop_that_stands_still_is_seen() {
    let (one, other) = (Heartbeat::new(Duration::from_secs(20)), Heartbeat::new(Duration::from_secs(20)));
    let hearts = Hearts::default().with("one", one.clone()).with("other", other.clone());
    assert_eq!(hearts.still(), None);
    tokio::time::sleep(Duration::from_secs(15)).await;
    one.tick();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(hearts.still(), Some(("other", Duration::from_secs(30))));
    other.tick();
    assert_eq!(hearts.still(), None);
}

#[tokio::test(start_paused = true)]
async fn no_watchdog_no_keep_alive() {
    let (manager, sent) = recorder(None);
    let cancel = CancellationToken::new();
    let watchdog = tokio::spawn({
        let cancel = cancel.clone();
        async move { manager.run_watchdog(Hearts::default(), cancel).await }
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(sent.lock().unwrap().is_empty());
    cancel.cancel();
    watchdog.await.unwrap();
}

#[test]
fn a_status_cannot_smuggle_a_variable() {
    let (manager, sent) = recorder(None);
    manager.status("two\nREADY=1\r");
    assert_eq!(*sent.lock().unwrap(), ["STATUS=two READY=1 "]);
}

/// Run by the test below in a process of its own, as the environment is the process'.
#[test]
#[ignore = "child of says_what_systemd_expects"]
fn child() {
    let manager = ServiceManager::from_env();
    assert_eq!(manager.watchdog, Some(Duration::from_secs(5)));
    manager.ready("serving");
    manager.reloading();
    manager.stopping();
}

#[test]
fn says_what_systemd_expects() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "service_manager::tests::child", "--ignored"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "5000000")
        .env_remove("WATCHDOG_PID")
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    let receive = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(receive(), "READY=1\nSTATUS=serving\n");
    let reloading = receive();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(receive(), "STOPPING=1\n");
}
