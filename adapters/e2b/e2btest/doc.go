// Package e2btest is a server that speaks as E2B does, for tests and examples: the control plane, and the daemon inside each
// sandbox with real processes behind it. A sandbox is a directory; it isolates nothing, so run nothing in it that is not
// yours. What the server answers is checked with E2B's official JavaScript SDK: where that fails, the server is wrong.
//
// Start one, point the adapter's api_url, sandbox_url and port_url at it (Server.Config), and tell it what to do wrong.
package e2btest
