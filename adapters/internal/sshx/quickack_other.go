//go:build !linux

package sshx

import "net"

// quickAck does nothing where there is no such option.
func quickAck(net.Conn) func() { return func() {} }
