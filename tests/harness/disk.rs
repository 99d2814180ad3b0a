//! A disk of one program's own: small enough to be filled, and able to hang and to break as disks
//! do.
//!
//! ext4 in a file. Frozen, it holds up whoever writes or syncs, as a controller that is stuck does;
//! broken, the kernel has found an error on it and made it read-only.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context as _, Outcome};
use crate::said::Said;
use crate::{ensure, failure};

/// Room for a journal, a store and a ledger; filled in a moment.
const BYTES: u64 = 24 * 1024 * 1024;

/// A mounted disk. Dropped, it is unmounted once nobody uses it any more.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    image: PathBuf,
}

/// A disk that hangs. Dropped, it goes on.
#[derive(Debug)]
pub struct Hanging<'d>(&'d Disk);

impl Disk {
    /// Puts a disk of its own under a directory, with what is there. Nobody may use it meanwhile.
    ///
    /// # Errors
    /// When there can't be one.
    pub fn under(at: &Path) -> Outcome<Self> {
        let beside = |suffix: &str| at.with_extension(suffix);
        let disk = Self { at: at.to_owned(), image: beside("img") };
        File::create(&disk.image)?.set_len(BYTES)?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&disk.image)])?;
        let was = beside("was");
        let moved = fs::rename(at, &was);
        fs::create_dir(at).context(at.display())?;
        disk.mount()?;
        if moved.is_ok() {
            run("cp", &["-a", &text(&was.join(".")), &text(at)])?;
            // What programs have synced before must not be lost with what they have not.
            run("sync", &["--file-system", &text(at)])?;
        }
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Fills it to its last block.
    ///
    /// # Errors
    /// When it does not become full.
    pub fn fill(&self) -> Outcome {
        let mut filler = File::options().create(true).append(true).open(self.filler())?;
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![b'.'; size];
            let full = loop {
                if let Err(error) = filler.write_all(&piece).and_then(|()| filler.sync_all()) {
                    break error;
                }
            };
            ensure!(full.kind() == ErrorKind::StorageFull, "{full}");
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When the filler can't be removed.
    pub fn make_room(&self) -> Outcome {
        fs::remove_file(self.filler()).context("removing the filler")
    }

    /// Has every write and sync hang until what is returned is dropped.
    ///
    /// # Errors
    /// When the kernel won't.
    pub fn hang(&self) -> Outcome<Hanging<'_>> {
        run("fsfreeze", &["--freeze", &text(&self.at)])?;
        Ok(Hanging(self))
    }

    /// Has the kernel find an error on it, which makes it read-only for good.
    ///
    /// # Errors
    /// When it goes on taking writes.
    pub fn fail(&self) -> Outcome {
        let device = self.device()?;
        let trigger = Path::new("/sys/fs/ext4").join(&device).join("trigger_fs_error");
        fs::write(&trigger, "1").context(trigger.display())?;
        match File::create(self.at.join("probe")) {
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => Err(failure!("{device} was to be read-only: {other:?}")),
        }
    }

    /// Checks it and mounts it anew, as after a reboot. Nobody may use it meanwhile.
    ///
    /// # Errors
    /// When it can't be mended.
    pub fn mend(&mut self) -> Outcome {
        run("umount", &["--lazy", &text(&self.at)])?;
        // A copy: who runs in another mount namespace may still hold the broken one.
        let mended = self.image.with_extension("mended");
        fs::copy(&self.image, &mended).context(mended.display())?;
        self.image = mended;
        let mut check = Command::new("fsck.ext4");
        let said = Said::by({
            check.args(["-f", "-y"]).arg(&self.image);
            check
        })?;
        // 1: errors were corrected.
        ensure!(matches!(said.code, Some(0 | 1)), "{said}");
        self.mount()
    }

    fn mount(&self) -> Outcome {
        let options = ["-o", "loop,errors=remount-ro"];
        run("mount", &[options[0], options[1], &text(&self.image), &text(&self.at)])
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// The name of its loop device.
    fn device(&self) -> Outcome<String> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let at = text(&self.at);
        let found = mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words.get(1) == Some(&at.as_str())).then(|| words[0].trim_start_matches("/dev/"))
        });
        found.map(str::to_owned).ok_or_else(|| failure!("{at} is no mount"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What can't be unmounted now is by the next run.
        let _ = run("umount", &["--lazy", &text(&self.at)]);
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        // It is mounted, so that it can only have been let go already.
        let _ = run("fsfreeze", &["--unfreeze", &text(&self.0.at)]);
    }
}

/// Lets go and unmounts all that is mounted below a directory.
///
/// # Errors
/// When the mounts can't be read.
pub fn unmount_below(directory: &Path) -> Outcome {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(directory)) {
        // One that does not hang says so.
        let _ = run("fsfreeze", &["--unfreeze", point]);
        run("umount", &["--lazy", point])?;
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program);
    command.args(arguments);
    Said::by(command)?.ok().map(drop)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
