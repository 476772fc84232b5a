"""Wire formats, sans-io: bytes in, structs and bytes out. No sockets, no clocks, no policy."""
