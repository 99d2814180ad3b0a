use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server of one file, as its `how` says; keeps what was asked of it.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
enum How {
    /// Breaks off after so many bytes of each answer.
    Breaks(usize),
    /// The same, and takes no notice of what is asked for.
    WithoutRanges(usize),
    /// Says nothing of how long it is.
    WithoutLength,
    /// Sends half, says so, and then waits for ever.
    Hangs(Arc<Notify>),
    Missing,
}

impl Server {
    async fn of(content: &'static [u8], how: How) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, count) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                answer(stream, content, &how, number, &kept).await;
            }
        });
        Self { address, asked }
    }

    fn ranges(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: TcpStream,
    content: &[u8],
    how: &How,
    number: usize,
    asked: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(&mut stream).lines();
    let mut range = String::new();
    while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
        if let Some(wanted) = line.to_ascii_lowercase().strip_prefix("range: ") {
            range = wanted.to_owned();
        }
    }
    let from = range.strip_prefix("bytes=").and_then(|it| it.strip_suffix('-')?.parse().ok());
    asked.lock().unwrap().push(range.clone());
    let (from, most) = match how {
        How::Missing => {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            return;
        }
        How::WithoutLength => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            stream.write_all(content).await.unwrap();
            return;
        }
        How::Breaks(most) => (from.unwrap_or(0), *most),
        How::Hangs(_) => (from.unwrap_or(0), content.len() / 2),
        // Further each time, or it would never be done.
        How::WithoutRanges(most) => (0, most * (number + 1)),
    };
    let rest = content.get(from..).unwrap_or_default();
    let head = match from {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        from if from >= content.len() => "HTTP/1.1 416 Range Not Satisfiable\r\n".to_owned(),
        from => format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{}\r\n",
            content.len() - 1,
            content.len()
        ),
    };
    let head = format!("{head}content-length: {}\r\n\r\n", rest.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&rest[..most.min(rest.len())]).await.unwrap();
    if let How::Hangs(sent) = how {
        sent.notify_one();
        std::future::pending::<()>().await;
    }
}

const CONTENT: &[u8] = b"#!/bin/sh\necho from afar\n";

fn artifact() -> Artifact {
    of("https://origin.invalid/run", CONTENT)
}

fn of(address: &str, content: &[u8]) -> Artifact {
    Artifact { address: address.into(), digest: Digest::of(content), inside: None }
}

fn settings(mirrors: &[&Server]) -> Settings {
    let mirror =
        |server: &&Server| Mirror::parse(&format!("https://origin.invalid={}", server.address));
    Settings { mirrors: mirrors.iter().filter_map(mirror).collect(), ..Settings::default() }
}

fn artifacts(directory: &tempfile::TempDir, mirrors: &[&Server]) -> Artifacts {
    Artifacts::new(directory.path(), settings(mirrors))
}

async fn bring(artifacts: &Artifacts) -> Result<(), String> {
    artifacts
        .bring(&artifact(), &Keyring::default(), |_, _| ())
        .await
        .map_err(|reason| reason.to_string())
}

fn content(artifacts: &Artifacts) -> Vec<u8> {
    fs::read(artifacts.0.whole(&artifact()).join("run")).unwrap()
}

fn partial(artifacts: &Artifacts) -> PathBuf {
    artifacts.0.root.join(PARTIAL).join(artifact().digest.to_string())
}

/// Has it cleared away, and sees it done.
async fn keep(artifacts: &Artifacts, place: &str, of: &[&Artifact]) {
    let names = of.iter().map(|artifact| name(artifact)).collect();
    artifacts.keep(Wanted::from([(place.into(), names)]));
    let store = Arc::clone(&artifacts.0);
    let seen = move || {
        while lock(&store.wanted).seen_to {
            std::thread::yield_now();
        }
    };
    tokio::task::spawn_blocking(seen).await.unwrap();
}

#[tokio::test]
async fn a_broken_download_is_gone_on_with_where_it_ended() {
    let (directory, server) =
        (tempfile::tempdir().unwrap(), Server::of(CONTENT, How::Breaks(10)).await);
    let artifacts = artifacts(&directory, &[&server]);
    bring(&artifacts).await.unwrap();
    assert_eq!(content(&artifacts), CONTENT);
    assert_eq!(server.ranges(), ["", "bytes=10-", "bytes=20-"]);
    assert_eq!(names(&artifacts.0.root.join(PARTIAL)), [""; 0], "nothing is left of the download");
    bring(&artifacts).await.unwrap();
    assert_eq!(server.ranges().len(), 3, "what is here is not fetched again");
}

#[tokio::test]
async fn so_is_one_of_a_process_that_was_killed() {
    let (directory, server) =
        (tempfile::tempdir().unwrap(), Server::of(CONTENT, How::Breaks(100)).await);
    let artifacts = artifacts(&directory, &[&server]);
    fs::create_dir_all(artifacts.0.root.join(PARTIAL)).unwrap();
    fs::write(partial(&artifacts), &CONTENT[..7]).unwrap();
    // And of one that was killed while it unpacked.
    let half = artifacts.0.root.join(UNPACK).join(name(&artifact()));
    fs::create_dir_all(half.join("run")).unwrap();
    bring(&artifacts).await.unwrap();
    assert_eq!((content(&artifacts), server.ranges()), (CONTENT.into(), vec!["bytes=7-".into()]));
}

#[tokio::test]
async fn what_is_left_of_something_else_is_not_gone_on_with() {
    for left in [&b"rubbish"[..], &[b'x'; 100]] {
        let (directory, server) =
            (tempfile::tempdir().unwrap(), Server::of(CONTENT, How::Breaks(100)).await);
        let artifacts = artifacts(&directory, &[&server]);
        fs::create_dir_all(artifacts.0.root.join(PARTIAL)).unwrap();
        fs::write(partial(&artifacts), left).unwrap();
        bring(&artifacts).await.unwrap();
        assert_eq!(content(&artifacts), CONTENT);
        assert_eq!(server.ranges(), [format!("bytes={}-", left.len()), String::new()]);
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_begun_anew() {
    for how in [How::WithoutRanges(12), How::WithoutLength] {
        let (directory, server) = (tempfile::tempdir().unwrap(), Server::of(CONTENT, how).await);
        let artifacts = artifacts(&directory, &[&server]);
        bring(&artifacts).await.unwrap();
        assert_eq!(content(&artifacts), CONTENT);
    }
}

#[tokio::test]
async fn another_content_is_refused_and_the_next_source_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = Server::of(b"something else", How::Breaks(100)).await;
    let missing = Server::of(b"", How::Missing).await;
    let only = artifacts(&directory, &[&wrong]);
    let why = bring(&only).await.unwrap_err();
    assert!(why.starts_with("ErrImagePull: https://origin.invalid/run@sha256:"), "{why}");
    let left = fs::read(partial(&only)).unwrap_or_default();
    assert!(!only.has(&artifact()).await && left.is_empty(), "nothing of it is gone on with");
    let right = Server::of(CONTENT, How::Breaks(100)).await;
    let artifacts = artifacts(&directory, &[&missing, &wrong, &right]);
    bring(&artifacts).await.unwrap();
    assert_eq!(content(&artifacts), CONTENT);
}

#[tokio::test]
async fn what_is_larger_than_may_be_is_refused() {
    for (how, asked) in [(How::Breaks(100), 1), (How::WithoutLength, 1)] {
        let (directory, server) = (tempfile::tempdir().unwrap(), Server::of(CONTENT, how).await);
        let settings = Settings { max_bytes: 10, ..settings(&[&server]) };
        let artifacts = Artifacts::new(directory.path(), settings);
        let why = bring(&artifacts).await.unwrap_err();
        assert!(why.contains("more than 10 bytes"), "{why}");
        assert_eq!(server.ranges().len(), asked);
        assert_eq!(fs::read(partial(&artifacts)).unwrap_or_default(), b"", "nothing is kept of it");
    }
}

#[tokio::test]
async fn files_of_the_machine_come_first_and_are_verified() {
    let (directory, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(given.path().join("run"), b"damaged").unwrap();
    let settings = Settings { directory: Some(given.path().into()), ..Settings::default() };
    let artifacts = Artifacts::new(directory.path(), settings);
    let why = bring(&artifacts).await.unwrap_err();
    assert!(why.contains(": https://origin.invalid/run: "), "its own address is asked, too: {why}");
    fs::write(given.path().join(artifact().digest.to_string()), CONTENT).unwrap();
    bring(&artifacts).await.unwrap();
    assert_eq!(content(&artifacts), CONTENT);

    let missing = of(&format!("file://{}/no", given.path().display()), b"other");
    let why =
        artifacts.bring(&missing, &Keyring::default(), |_, _| ()).await.unwrap_err().to_string();
    assert!(why.contains("No such file"), "{why}");
    let damaged = of(&format!("file://{}/run", given.path().display()), b"other");
    let why =
        artifacts.bring(&damaged, &Keyring::default(), |_, _| ()).await.unwrap_err().to_string();
    assert!(why.contains("has another content: its digest is sha256:"), "{why}");
    let directory = of(&format!("file://{}", given.path().display()), b"other");
    let why =
        artifacts.bring(&directory, &Keyring::default(), |_, _| ()).await.unwrap_err().to_string();
    assert!(why.contains("not a regular file"), "{why}");
}

/// The same bytes under two names are two volumes.
#[tokio::test]
async fn a_file_has_the_name_that_its_volume_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    let given = directory.path().join("given");
    fs::write(&given, CONTENT).unwrap();
    let artifacts = Artifacts::new(directory.path(), Settings::default());
    let own = of(&format!("file://{}", given.display()), CONTENT);
    let other = Artifact { inside: Some("run".into()), ..own.clone() };
    for (artifact, called) in [(&own, "given"), (&other, "run")] {
        artifacts.bring(artifact, &Keyring::default(), |_, _| ()).await.unwrap();
        let program = artifacts.0.whole(artifact).join(called);
        assert_eq!(fs::read(&program).unwrap(), CONTENT);
        assert_eq!(program.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    }
}

#[tokio::test]
async fn an_archive_is_unpacked_and_a_bad_one_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(CONTENT.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, "bin/run", CONTENT).unwrap();
    let archive = archive.into_inner().unwrap();
    let artifacts = Artifacts::new(directory.path(), Settings::default());
    let brought = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        of(&format!("file://{}", path.display()), content)
    };
    let good = brought("a.tar", &archive);
    artifacts.bring(&good, &Keyring::default(), |_, _| ()).await.unwrap();
    let whole = artifacts.0.whole(&good);
    assert_eq!(fs::read(whole.join("bin/run")).unwrap(), CONTENT);
    assert_eq!(whole.metadata().unwrap().permissions().mode() & 0o7777, 0o755);

    let bad = brought("b.tar", &archive[..600]);
    let why = artifacts.bring(&bad, &Keyring::default(), |_, _| ()).await.unwrap_err().to_string();
    assert!(why.contains("can't be unpacked"), "{why}");
    assert!(names(&artifacts.0.root.join(UNPACK)).is_empty() && !artifacts.has(&bad).await);
}

#[tokio::test]
async fn what_nobody_wants_is_cleared_away_but_for_what_there_was_before() {
    let directory = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(directory.path(), Settings::default());
    let file = |name: &str| {
        let path = directory.path().join(name);
        fs::write(&path, name).unwrap();
        of(&format!("file://{}", path.display()), name.as_bytes())
    };
    let [a, b, c] = [file("a"), file("b"), file("c")];
    let here = async |artifacts: &Artifacts| {
        let mut here = String::new();
        for artifact in [&a, &b, &c] {
            let is_here = artifacts.has(artifact).await;
            here.push_str(if is_here { artifact.file_name() } else { "-" });
        }
        here
    };
    for artifact in [&a, &b, &c] {
        artifacts.bring(artifact, &Keyring::default(), |_, _| ()).await.unwrap();
    }
    assert_eq!(here(&artifacts).await, "abc", "nobody has said what is wanted");
    keep(&artifacts, "n/x", &[&a, &b]).await;
    assert_eq!(here(&artifacts).await, "ab-");
    keep(&artifacts, "n/x", &[&b]).await;
    assert_eq!(here(&artifacts).await, "ab-");
    // What was before is known to the next agent here, too.
    let artifacts = Artifacts::new(directory.path(), Settings::default());
    keep(&artifacts, "n/x", &[&b]).await;
    assert_eq!(here(&artifacts).await, "ab-");
    assert!(artifacts.0.make_room().await.unwrap(), "room is made by what was before");
    assert_eq!(
        (here(&artifacts).await, artifacts.0.make_room().await.unwrap()),
        ("-b-".into(), false)
    );
    artifacts.keep(Wanted::new());
    keep(&artifacts, "n/y", &[]).await;
    assert_eq!(here(&artifacts).await, "---");
    assert_eq!(names(&artifacts.0.root.join(WHOLE)), [""; 0]);
    assert!(!artifacts.0.root.join(REMOVED).exists());
    Artifacts::wipe(directory.path()).unwrap();
    assert!(!artifacts.0.root.exists());
    Artifacts::wipe(directory.path()).unwrap();
}

#[tokio::test]
async fn what_is_on_its_way_is_not_cleared_away_and_ends_when_nobody_waits() {
    let sent = Arc::new(Notify::new());
    let directory = tempfile::tempdir().unwrap();
    let server = Server::of(CONTENT, How::Hangs(Arc::clone(&sent))).await;
    let artifacts = artifacts(&directory, &[&server]);
    let trying = tokio::spawn({
        let artifacts = artifacts.clone();
        async move { bring(&artifacts).await }
    });
    sent.notified().await;
    keep(&artifacts, "n/x", &[]).await;
    assert!(partial(&artifacts).exists(), "somebody writes to it");
    trying.abort();
    assert!(trying.await.unwrap_err().is_cancelled());
    tokio::time::pause();
    // It is silent for so long that the connection is given up; then what is left is cleared away.
    while partial(&artifacts).exists() {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// Of a process that was killed after it had put it in place.
#[tokio::test]
async fn parts_of_what_is_whole_are_cleared_away() {
    let (directory, server) =
        (tempfile::tempdir().unwrap(), Server::of(CONTENT, How::Breaks(100)).await);
    let artifacts = artifacts(&directory, &[&server]);
    bring(&artifacts).await.unwrap();
    let (wanted, other) = (artifact(), of("https://origin.invalid/x", b"x"));
    let root = artifacts.0.root.join(PARTIAL);
    let [part, left] = [&wanted, &other].map(|of| format!("{}.{}", of.digest, Digest::of(b"")));
    for name in [&part, &left] {
        fs::write(root.join(name), "").unwrap();
    }
    keep(&artifacts, "n/x", &[&wanted, &other]).await;
    assert_eq!(names(&root), [left], "what is to come is gone on with");
    assert_eq!(content(&artifacts), CONTENT);
}

#[tokio::test]
async fn a_disk_without_room_is_told_of_before_anything_is_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let why = has_room(directory.path(), u64::MAX / 2).unwrap_err().to_string();
    assert!(why.contains("bytes are needed") && why.contains("are free"), "{why}");
}

#[test]
fn a_mirror_is_one_prefix_for_another() {
    let mirrored = |mirror: &str, address: &str| Mirror::parse(mirror)?.address(address);
    let mirror = "https://github.com/=http://mirror.lan/gh/?of=";
    let there = mirrored(mirror, "https://github.com/a/b=c");
    assert_eq!(there, Some("http://mirror.lan/gh/?of=a/b=c".into()));
    assert_eq!(mirrored(mirror, "https://gitlab.com/a"), None);
    assert_eq!(mirrored("https://=https://m/", "https://h/a"), Some("https://m/h/a".into()));
    for bad in ["https://a/", "a=https://b", "https://a=b", "http://a=https://b", ""] {
        assert_eq!(Mirror::parse(bad), None, "{bad}");
    }
}
