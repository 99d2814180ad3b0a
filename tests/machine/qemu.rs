//! The hardware: a processor, a disk that is thrown away, a cable, a power button, and a plug that
//! can be pulled.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};

use everynode_tests::daemon::Daemon;
use everynode_tests::{Context as _, Fleet, Outcome, ensure, failure, wait};

/// Where the image is that `tests/machine/image` made.
const IMAGE: &str = "EVERYNODE_MACHINE_IMAGE";

/// For an answer of qemu itself, which is quick whatever the machine does.
const ANSWER: Duration = Duration::from_secs(30);

/// For a machine to go down, emulated on a busy host: the graces of all pods, and then systemd.
const GOES_DOWN: Duration = Duration::from_secs(240);

/// The machine's only network card.
const CARD: &str = "card";

/// A machine under power. Dropped, it loses it.
pub(crate) struct Qemu {
    process: Daemon,
    monitor: RefCell<BufReader<UnixStream>>,
}

/// Where the files of an image are.
pub(crate) fn image() -> Outcome<PathBuf> {
    let image = std::env::var_os(IMAGE).ok_or_else(|| {
        failure!("{IMAGE} is not set; tests/machine/run makes an image and plays")
    })?;
    let image = PathBuf::from(image);
    ensure!(image.join("made-by").is_file(), "there is no image in {}", image.display());
    Ok(image)
}

/// How the machine's processor comes about, for people.
pub(crate) fn speed() -> &'static str {
    match virtualized() {
        true => "virtualized, by KVM",
        false => {
            "emulated, several times slower: this host shows no virtualization that KVM could use"
        }
    }
}

/// Makes a disk in `dir` that begins as the image's and keeps what is written to it.
pub(crate) fn make_disk(dir: &Path) -> Outcome {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    command.arg(image()?.join("root.raw")).arg(dir.join("root.qcow2"));
    everynode_tests::said::Said::by(command)?.ok().map(drop)
}

/// Where the guest's agent is reached.
pub(crate) fn guest_socket(dir: &Path) -> PathBuf {
    dir.join("guest")
}

/// What the machine prints on its console.
pub(crate) fn console(dir: &Path) -> PathBuf {
    dir.join("console")
}

impl Qemu {
    /// Switches it on, with the disks that are in `dir`, where its user network leads to the
    /// coordinator.
    pub(crate) fn power_on(fleet: &Fleet<'_>, dir: &Path) -> Outcome<Self> {
        let image = image()?;
        let mut command = fleet.coordinator().command("qemu-system-x86_64".as_ref());
        command.args(["-machine", "q35"]);
        command.args(match virtualized() {
            true => ["-accel", "kvm", "-cpu", "host"],
            false => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        });
        command.args(["-smp", "1", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(image.join("vmlinuz"));
        command.arg("-initrd").arg(image.join("initrd"));
        command.args(["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0"]);
        command.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        let file = |path: &Path| path.display().to_string();
        command.args(["-serial", &format!("file:{}", file(&console(dir)))]);
        for disk in [("root.qcow2", "qcow2", "off"), ("programs.raw", "raw", "on")] {
            let (name, format, read_only) = disk;
            let path = file(&dir.join(name));
            command
                .args(["-drive"])
                .arg(format!("file={path},format={format},if=virtio,readonly={read_only}"));
        }
        command.args(["-netdev", "user,id=cable"]);
        command.args(["-device", &format!("virtio-net-pci,netdev=cable,id={CARD}")]);
        let guest = file(&guest_socket(dir));
        command.args(["-chardev", &format!("socket,id=guest,path={guest},server=on,wait=off")]);
        command.args(["-device", "virtserialport,chardev=guest,name=org.qemu.guest_agent.0"]);
        let monitor = dir.join("monitor");
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", file(&monitor))]);
        let process = Daemon::start(command, &dir.join("qemu.log"))?;
        let stream = wait::soon("qemu listens", || {
            UnixStream::connect(&monitor).context(format!("qemu said: {}", process.said()))
        })?;
        stream.set_read_timeout(Some(ANSWER))?;
        let qemu = Self { process, monitor: RefCell::new(BufReader::new(stream)) };
        // It greets, and wants to be greeted.
        qemu.read(|line| line.get("QMP").is_some())?;
        qemu.ask("qmp_capabilities", &json!({}))?;
        Ok(qemu)
    }

    /// Pulls the plug: nothing is written any more that was not on the disk.
    pub(crate) fn lose_power(self) -> Outcome {
        self.process.kill()
    }

    /// Presses the power button, and waits until the machine has switched itself off.
    pub(crate) fn press_power_button(mut self) -> Outcome<ExitStatus> {
        self.ask("system_powerdown", &json!({}))?;
        self.off()
    }

    /// Waits until the machine has switched itself off; a restart counts as well.
    pub(crate) fn off(&mut self) -> Outcome<ExitStatus> {
        wait::within(GOES_DOWN, "the machine switches itself off", || wait_for(&mut self.process))
    }

    /// Pulls the network cable, or plugs it in again.
    pub(crate) fn plug(&self, plugged: bool) -> Outcome {
        self.ask("set_link", &json!({ "name": CARD, "up": plugged })).map(drop)
    }

    fn ask(&self, what: &str, with: &Value) -> Outcome<Value> {
        let line = json!({ "execute": what, "arguments": with }).to_string() + "\n";
        self.monitor.borrow_mut().get_mut().write_all(line.as_bytes())?;
        let answer =
            self.read(|line| line.get("return").is_some() || line.get("error").is_some())?;
        ensure!(answer.get("return").is_some(), "qemu refuses {what}: {answer}");
        Ok(answer)
    }

    /// The next line that is wanted; events in between are for nobody.
    fn read(&self, wanted: impl Fn(&Value) -> bool) -> Outcome<Value> {
        loop {
            let mut line = String::new();
            let length =
                self.monitor.borrow_mut().read_line(&mut line).context("qemu's monitor")?;
            ensure!(length > 0, "qemu has ended: {}", self.process.said());
            let line = serde_json::from_str(&line)?;
            if wanted(&line) {
                return Ok(line);
            }
        }
    }
}

fn wait_for(process: &mut Daemon) -> Outcome<ExitStatus> {
    process.ended_already()?.ok_or_else(|| failure!("it is on"))
}

/// Whether KVM can run any kernel here. The device alone does not tell: some hosts offer one that
/// runs paravirtualized kernels only, and show no virtualization in their processor.
fn virtualized() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let shown = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    shown && fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}
