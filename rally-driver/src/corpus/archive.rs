//! Archives that documents come in, unpacked as a stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::bzip2_blocks::Bzip2Blocks;
use super::parallel::in_order;
use super::zstd_frames::ZstdFrames;

/// Bytes that are unpacked at once.
const BLOCK: usize = 256 << 10;

/// The largest block or frame that is unpacked in memory, in bytes.
const LARGEST_PIECE: u64 = 1 << 30;

/// Windows of up to 2 GiB, as `zstd --long=31` makes them.
const ZSTD_WINDOW_LOG: u32 = 31;

/// Takes what is unpacked.
pub(super) trait Output {
    /// Takes the next bytes.
    fn write(&mut self, block: &[u8]) -> io::Result<()>;

    /// Forgets everything, because it begins from the start.
    fn restart(&mut self) -> io::Result<()>;
}

/// How an archive is made, by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bzip2,
    Gzip,
    Zstd,
    Lz4,
    Zip,
    Tar,
    TarGzip,
    TarBzip2,
}

const ENDINGS: [(&str, Kind); 9] = [
    (".tar.gz", Kind::TarGzip),
    (".tgz", Kind::TarGzip),
    (".tar.bz2", Kind::TarBzip2),
    (".tar", Kind::Tar),
    (".zip", Kind::Zip),
    (".bz2", Kind::Bzip2),
    (".gz", Kind::Gzip),
    (".zst", Kind::Zstd),
    (".lz4", Kind::Lz4),
];

/// Unpacks the file `name` of an archive, on several threads where the format allows it.
///
/// Archives of several files are only searched for the one: no name in them decides where anything is written.
///
/// # Errors
///
/// The archive cannot be read, is damaged, of another kind, or does not have the file; or the output fails.
pub(super) fn unpack(archive: &Path, name: &str, threads: usize, out: &mut impl Output) -> io::Result<()> {
    let file_name = archive.to_string_lossy();
    let kind = ENDINGS.iter().find(|(ending, _)| file_name.ends_with(ending)).map(|(_, kind)| *kind);
    let kind = kind.ok_or_else(|| io::Error::other("the kind of archive is not known"))?;
    let open = || Ok::<_, io::Error>(BufReader::with_capacity(BLOCK, File::open(archive)?));
    match kind {
        Kind::Bzip2 => {
            let unpack_block = |block: Vec<u8>| read_all(MultiBzDecoder::new(&block[..]));
            match in_order(threads, Bzip2Blocks::new(open()?), unpack_block, |block| out.write(&block)) {
                Err(error) if is_about_data(&error) => {
                    // Either it is damaged, which this finds out again, or the ends of blocks were not what they seemed.
                    out.restart()?;
                    copy(MultiBzDecoder::new(open()?), out)
                }
                result => result,
            }
        }
        Kind::Zstd => {
            let unpack_frame = |frame: Vec<u8>| read_all(zstd_decoder(&frame[..])?);
            match in_order(threads, ZstdFrames::new(open()?), unpack_frame, |frame| out.write(&frame)) {
                Err(error) if is_about_data(&error) => {
                    out.restart()?;
                    copy(zstd_decoder(open()?)?, out)
                }
                result => result,
            }
        }
        Kind::Gzip => copy(MultiGzDecoder::new(open()?), out),
        Kind::Lz4 => {
            let mut input = open()?;
            while !input.fill_buf()?.is_empty() {
                copy(FrameDecoder::new(&mut input), out)?;
            }
            Ok(())
        }
        Kind::Zip => {
            let mut zip = zip::ZipArchive::new(open()?).map_err(io::Error::other)?;
            let is_wanted = |entry: &str| is_entry(Path::new(entry), name);
            let found = zip.file_names().position(|entry| entry.is_ok_and(|entry| is_wanted(&entry)));
            let index = found.ok_or_else(|| without(name))?;
            copy(zip.by_index(index).map_err(io::Error::other)?, out)
        }
        Kind::Tar => unpack_tar(open()?, name, out),
        Kind::TarGzip => unpack_tar(MultiGzDecoder::new(open()?), name, out),
        Kind::TarBzip2 => unpack_tar(MultiBzDecoder::new(open()?), name, out),
    }
}

fn unpack_tar(input: impl Read, name: &str, out: &mut impl Output) -> io::Result<()> {
    for entry in tar::Archive::new(input).entries()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() && is_entry(&entry.path()?, name) {
            return copy(entry, out);
        }
    }
    Err(without(name))
}

/// Whether an entry of an archive is the file of this name, perhaps with a `./` before it.
fn is_entry(entry: &Path, name: &str) -> bool {
    let file_name = Path::new(name).file_name().map(Path::new);
    let entry = entry.components().filter(|part| *part != Component::CurDir);
    entry.clone().eq(Path::new(name).components()) || file_name.is_some_and(|name| entry.eq(name.components()))
}

fn without(name: &str) -> io::Error {
    io::Error::other(format!("there is no `{name}` in it"))
}

/// Whether an error speaks of the bytes of the archive, and not of the disk.
fn is_about_data(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}

fn zstd_decoder<R: Read>(input: R) -> io::Result<zstd::Decoder<'static, BufReader<R>>> {
    let mut decoder = zstd::Decoder::new(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

fn read_all(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(LARGEST_PIECE).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == LARGEST_PIECE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a piece of it has more than 1 GiB"));
    }
    Ok(bytes)
}

fn copy(mut input: impl Read, out: &mut impl Output) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        match input.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(length) => out.write(&block[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
