//! Arguments, environment, exit; and sockets, which there are none of.

use super::{
    Wasi,
    errno::{Errno, Outcome, Stop, done},
    memory,
};

impl Wasi {
    /// Writes the arguments, and pointers to them.
    pub fn args_get(&mut self, mem: &mut [u8], argv: u32, argv_buf: u32) -> Result<Errno, Stop> {
        done(|| write_strings(mem, &self.args, argv, argv_buf))
    }

    /// Number of arguments, and their length in bytes with their NULs.
    pub fn args_sizes_get(&mut self, mem: &mut [u8], argc: u32, argv_buf_size: u32) -> Result<Errno, Stop> {
        done(|| write_sizes(mem, &self.args, argc, argv_buf_size))
    }

    /// Writes the environment as `NAME=value`, and pointers to it.
    pub fn environ_get(&mut self, mem: &mut [u8], environ: u32, environ_buf: u32) -> Result<Errno, Stop> {
        done(|| write_strings(mem, &self.env, environ, environ_buf))
    }

    /// Number of environment variables, and their length in bytes with their NULs.
    pub fn environ_sizes_get(
        &mut self,
        mem: &mut [u8],
        count: u32,
        environ_buf_size: u32,
    ) -> Result<Errno, Stop> {
        done(|| write_sizes(mem, &self.env, count, environ_buf_size))
    }

    /// Ends the guest: always [`Stop::Exit`].
    pub fn proc_exit(&mut self, _mem: &mut [u8], code: u32) -> Result<Errno, Stop> {
        self.exit_code = Some(code);
        Err(Stop::Exit(code))
    }

    /// Signals do not exist: `Notsup`.
    pub fn proc_raise(&mut self, _mem: &mut [u8], _signal: u32) -> Result<Errno, Stop> {
        Ok(Errno::Notsup)
    }

    /// There is nobody to yield to.
    pub fn sched_yield(&mut self, _mem: &mut [u8]) -> Result<Errno, Stop> {
        Ok(Errno::Success)
    }

    /// No descriptor is a socket: `Notsock`.
    pub fn sock_accept(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        _flags: u32,
        _accepted: u32,
    ) -> Result<Errno, Stop> {
        self.no_socket(fd)
    }

    /// No descriptor is a socket: `Notsock`.
    #[allow(clippy::too_many_arguments)] // The signature is the standard's.
    pub fn sock_recv(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        _iovs: u32,
        _iovs_len: u32,
        _flags: u32,
        _nread: u32,
        _flags_out: u32,
    ) -> Result<Errno, Stop> {
        self.no_socket(fd)
    }

    /// No descriptor is a socket: `Notsock`.
    pub fn sock_send(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        _iovs: u32,
        _iovs_len: u32,
        _flags: u32,
        _nwritten: u32,
    ) -> Result<Errno, Stop> {
        self.no_socket(fd)
    }

    /// No descriptor is a socket: `Notsock`.
    pub fn sock_shutdown(&mut self, _mem: &mut [u8], fd: u32, _how: u32) -> Result<Errno, Stop> {
        self.no_socket(fd)
    }

    fn no_socket(&self, fd: u32) -> Result<Errno, Stop> {
        Ok(if self.fds.get(fd).is_ok() { Errno::Notsock } else { Errno::Badf })
    }
}

fn write_sizes(mem: &mut [u8], strings: &[String], count: u32, size: u32) -> Outcome {
    let bytes: usize = strings.iter().map(|s| s.len() + 1).sum();
    memory::write_u32(mem, count, u32::try_from(strings.len()).map_err(|_| Errno::Overflow)?)?;
    memory::write_u32(mem, size, u32::try_from(bytes).map_err(|_| Errno::Overflow)?)?;
    Ok(())
}

fn write_strings(mem: &mut [u8], strings: &[String], pointers: u32, buffer: u32) -> Outcome {
    let (mut pointer, mut at) = (pointers, buffer);
    for string in strings {
        memory::write_u32(mem, pointer, at)?;
        memory::write(mem, at, string.as_bytes())?;
        at = at.checked_add(string.len() as u32).ok_or(Errno::Fault)?;
        memory::write(mem, at, &[0])?;
        at = at.checked_add(1).ok_or(Errno::Fault)?;
        pointer = pointer.checked_add(4).ok_or(Errno::Fault)?;
    }
    Ok(())
}
