// A user in Go: `cargo xtask interop users` builds and starts it.
module galaxy/user

go 1.26.0

require github.com/coder/websocket v1.8.15
