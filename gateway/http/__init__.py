"""The Litestar edge: routes, the ASGI guard, the mapping of errors."""
