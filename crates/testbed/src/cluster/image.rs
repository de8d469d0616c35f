//! Container images out of folders: archives in the OCI layout, of one layer, without an engine or a registry.
//!
//! `ctr images import`, `podman load` and `skopeo copy oci-archive:…` read them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Architecture, Endianness, Object as _, ReadCache};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ClusterError;
use super::error::file;
use crate::guest::succeed;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const AGENT: &str = "multinic-agent";
/// Where programs find certificate authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How a container of an image starts.
#[derive(Debug, Clone)]
pub struct Image {
    reference: String,
    entrypoint: Vec<String>,
    user: String,
    architecture: &'static str,
    labels: BTreeMap<String, String>,
}

impl Image {
    /// An image of this name with tag, whose containers run this program, as root, on a machine like this one.
    pub fn new(reference: &str, entrypoint: &[&str]) -> Self {
        Self {
            reference: reference.to_owned(),
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            user: "0:0".to_owned(),
            architecture: own_architecture(),
            labels: BTreeMap::new(),
        }
    }

    /// Its containers run as this user and group, such as `65532:65532`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Its containers run on machines of this kind, such as `arm64`.
    #[must_use]
    pub fn architecture(mut self, architecture: &'static str) -> Self {
        self.architecture = architecture;
        self
    }

    /// A label, such as `org.opencontainers.image.version`.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Packs a folder as an image into an archive. The same folder gives the same archive.
///
/// # Errors
/// Where a file cannot be read or written, or tar fails.
pub fn pack(root: &Path, image: &Image, archive: &Path) -> Result<(), ClusterError> {
    let folder = tempfile::tempdir().map_err(file(std::env::temp_dir()))?;
    let blobs = folder.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(file(&blobs))?;

    let layer = folder.path().join("layer");
    tar(root, &layer)?;
    let layer = keep(&blobs, &layer, LAYER)?;
    let Image { reference, entrypoint, user, architecture, labels } = image;
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": entrypoint,
            "User": user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
    });
    let config = keep_json(&blobs, &config, CONFIG)?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let mut manifest = keep_json(&blobs, &manifest, MANIFEST)?;
    manifest.annotations.insert("org.opencontainers.image.ref.name", reference.clone());
    // containerd takes this one, and kubelet asks it for full names.
    manifest.annotations.insert("io.containerd.image.name", full_name(reference));
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    for (name, content) in [("index.json", index), ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }))] {
        let path = folder.path().join(name);
        fs::write(&path, content.to_string()).map_err(file(path))?;
    }
    tar(folder.path(), archive)
}

/// The image of one of our programs. The agent's containers run as root, which they need on a node; others as nobody.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn pack_program(program: &Path, reference: &str, archive: &Path) -> Result<(), ClusterError> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let folder = tempfile::tempdir().map_err(file(std::env::temp_dir()))?;
    lay_out(program, folder.path())?;
    let image = of_program(&name, reference).architecture(Program::read(program)?.architecture);
    pack(folder.path(), &image, archive)
}

/// As `deploy/images/Containerfile` has it.
fn of_program(name: &str, reference: &str) -> Image {
    let user = if name == AGENT { "0:0" } else { "65532:65532" };
    Image::new(reference, &[&format!("/usr/local/bin/{name}")])
        .user(user)
        .label("org.opencontainers.image.title", name)
        .label("org.opencontainers.image.version", env!("CARGO_PKG_VERSION"))
        .label("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY"))
        .label("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
}

/// Fills an empty folder with a program, the libraries that it was linked with, certificate authorities, and the users
/// root and nobody: all that one of our programs needs.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn lay_out(program: &Path, root: &Path) -> Result<(), ClusterError> {
    for folder in ["etc", "usr/local/bin", "var", "run", "tmp"] {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(file(path))?;
    }
    let tmp = root.join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).map_err(file(&tmp))?;
    let name = program.file_name().unwrap_or_default();
    copy(program, &root.join("usr/local/bin").join(name))?;
    for library in libraries(program)? {
        copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    if Path::new(AUTHORITIES).is_file() {
        copy(Path::new(AUTHORITIES), &root.join(AUTHORITIES.trim_start_matches('/')))?;
    }
    for (name, content) in [
        ("passwd", "root:x:0:0:root:/:/nologin\nnonroot:x:65532:65532:nonroot:/:/nologin\n"),
        ("group", "root:x:0:\nnonroot:x:65532:\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
    ] {
        let path = root.join("etc").join(name);
        fs::write(&path, content).map_err(file(path))?;
    }
    Ok(())
}

/// What a program's header says.
struct Program {
    /// What it runs on, as Go names it.
    architecture: &'static str,
    /// Whether another program loads it, with its libraries.
    is_dynamic: bool,
}

impl Program {
    fn read(path: &Path) -> Result<Self, ClusterError> {
        let content = ReadCache::new(File::open(path).map_err(file(path))?);
        let unfit = |why: String| file(path)(io::Error::new(io::ErrorKind::InvalidData, why));
        let header = ElfFile64::<Endianness, _>::parse(&content);
        let header = header.map_err(|error| unfit(format!("no program for Linux: {error}")))?;
        let architecture = match header.architecture() {
            Architecture::X86_64 => "amd64",
            Architecture::Aarch64 => "arm64",
            other => return Err(unfit(format!("there are no images for {other:?}"))),
        };
        let mut segments = header.elf_program_headers().iter();
        let is_dynamic = segments.any(|segment| segment.p_type(header.endian()) == PT_INTERP);
        Ok(Self { architecture, is_dynamic })
    }
}

/// The libraries of a program, with the one that loads them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    let Program { architecture, is_dynamic } = Program::read(program)?;
    if !is_dynamic {
        return Ok(Vec::new());
    }
    if architecture != own_architecture() {
        let why =
            format!("is for {architecture} and needs libraries, which are not here: link it statically");
        return Err(file(program)(io::Error::new(io::ErrorKind::Unsupported, why)));
    }
    let mut command = Command::new("ldd");
    command.arg(program);
    let listed = succeed(command)?;
    // `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// Copies a file, not a link to it.
fn copy(from: &Path, to: &Path) -> Result<(), ClusterError> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(file(folder))?;
    }
    fs::copy(from, to).map(drop).map_err(file(from))
}

/// Times, owners and order are left out: they would make another archive of the same content.
fn tar(folder: &Path, archive: &Path) -> Result<(), ClusterError> {
    let mut command = Command::new("tar");
    command.args(["--create", "--sort=name", "--mtime=@0", "--numeric-owner", "--format=pax"]);
    command.arg("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--owner=0", "--group=0"]);
    }
    command.arg("--file").arg(archive).arg("--directory").arg(folder);
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(file(folder))? {
        let name = PathBuf::from(entry.map_err(file(folder))?.file_name());
        // What is packed may be written beside what it is packed from.
        if folder.join(&name) != archive {
            names.push(name);
        }
    }
    names.sort();
    command.arg("--").args(names);
    succeed(command)?;
    Ok(())
}

/// What short names of images have always been short for.
fn full_name(reference: &str) -> String {
    match reference.split_once('/') {
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    }
}

/// How one blob names another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

/// Moves a file to where its digest says, and describes it.
fn keep(blobs: &Path, path: &Path, media_type: &'static str) -> Result<Descriptor, ClusterError> {
    let mut digest = Sha256::new();
    let mut content = File::open(path).map_err(file(path))?;
    let size = io::copy(&mut content, &mut DigestWriter(&mut digest)).map_err(file(path))?;
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::rename(path, blobs.join(&digest)).map_err(file(path))?;
    Ok(Descriptor { media_type, digest: format!("sha256:{digest}"), size, annotations: BTreeMap::new() })
}

fn keep_json(blobs: &Path, content: &Value, media_type: &'static str) -> Result<Descriptor, ClusterError> {
    let path = blobs.join("new");
    fs::write(&path, content.to_string()).map_err(file(&path))?;
    keep(blobs, &path, media_type)
}

struct DigestWriter<'a>(&'a mut Sha256);

impl io::Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What this machine is, as Go names it.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    const CONTAINERFILE: &str = include_str!("../../../../deploy/images/Containerfile");
    const MAKEFILE: &str = include_str!("../../../../Makefile");
    const STATIC: &str = "-C target-feature=+crt-static";

    /// What an instruction of the image's last stage says.
    fn said<'a>(image: &str, instruction: &str) -> Vec<&'a str> {
        let stages = CONTAINERFILE.split("\nFROM ").skip(1);
        let mut stage =
            stages.filter(|stage| stage.lines().next().unwrap().ends_with(&format!(" AS {image}")));
        let lines = stage.next().unwrap_or_else(|| panic!("no stage {image}")).lines();
        lines.filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' ')).collect()
    }

    #[test]
    fn images_made_here_are_those_of_the_containerfile() {
        for name in ["multinic", AGENT] {
            let Image { entrypoint, user, .. } = of_program(name, "any");
            assert_eq!(said(name, "USER"), [user.as_str()], "{name}");
            let said_entrypoint: Vec<String> = serde_json::from_str(said(name, "ENTRYPOINT")[0]).unwrap();
            assert_eq!(said_entrypoint, entrypoint, "{name}");

            // Any program will do: what it is linked with is the base image's matter there.
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join(name);
            fs::copy("/bin/true", &program).unwrap();
            let root = folder.path().join("root");
            lay_out(&program, &root).unwrap();
            let copied: Vec<Vec<&str>> =
                said(name, "COPY").into_iter().map(|line| line.split(' ').collect()).collect();
            let [copy] = copied.as_slice() else { panic!("{name} copies {copied:?}") };
            let built = format!("/source/target/release/{name}");
            assert_eq!(copy[..2], ["--from=build", &built], "{name}");
            assert!(root.join(copy[2].trim_start_matches('/')).is_file(), "{name} has no {}", copy[2]);
            assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().contains(&format!("x:{user}:")));

            // Both are built alike.
            assert!(CONTAINERFILE.contains(&format!("-p {name} --bin {name} -- {STATIC}")), "{name}");
            assert!(MAKEFILE.contains(&format!("-p {name} --bin {name}")), "{name}");
        }
        assert!(MAKEFILE.contains(&format!("STATIC = -- {STATIC}")));
    }

    #[test]
    fn the_containerfile_builds_for_the_machines_that_there_are_images_for() {
        for (kind, target) in [("amd64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu")]
        {
            assert!(CONTAINERFILE.contains(&format!(" {kind}) echo {target} ;;")), "{kind}");
            let linker = format!("CARGO_TARGET_{}_LINKER=", target.to_uppercase().replace('-', "_"));
            assert!(CONTAINERFILE.contains(&linker), "{linker}");
        }
        assert!(CONTAINERFILE.contains("\nFROM --platform=$BUILDPLATFORM "));
    }

    /// A program that has this number for its machine in its header, in place of this machine's.
    fn program_for(machine: u16, is_static: bool, folder: &Path) -> PathBuf {
        let mut bytes = fs::read("/bin/true").unwrap();
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        if is_static {
            // Of segments, by which it would name what loads it, it has none.
            bytes[56..58].fill(0);
        }
        let path = folder.join("multinic");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn in_archive(archive: &Path, member: &str) -> Value {
        let output = Command::new("tar").arg("-xOf").arg(archive).arg(member).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[test]
    fn an_image_is_for_the_machines_that_its_program_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        for (machine, name) in [(object::elf::EM_X86_64, "amd64"), (object::elf::EM_AARCH64, "arm64")] {
            pack_program(&program_for(machine, true, folder.path()), "any:1", &archive).unwrap();
            let mut blob = in_archive(&archive, "index.json")["manifests"][0].clone();
            for next in ["/config", ""] {
                let digest = blob["digest"].as_str().unwrap().replace(':', "/");
                let content = in_archive(&archive, &format!("blobs/{digest}"));
                blob = content.pointer(next).unwrap().clone();
            }
            assert_eq!(blob["architecture"], name);
        }
        let refused = |program: &Path| pack_program(program, "any:1", &archive).unwrap_err().to_string();
        let other = refused(&program_for(object::elf::EM_RISCV, true, folder.path()));
        assert!(other.contains("no images for Riscv64"), "{other}");
        let dynamic =
            if own_architecture() == "amd64" { object::elf::EM_AARCH64 } else { object::elf::EM_X86_64 };
        let dynamic = refused(&program_for(dynamic, false, folder.path()));
        assert!(dynamic.contains("link it statically"), "{dynamic}");
        let script = folder.path().join("multinic");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(refused(&script).contains("no program for Linux"));
    }
}
