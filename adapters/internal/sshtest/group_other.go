//go:build !unix

package sshtest

import "os/exec"

// Nothing of this package runs here: there is no sshd to start.
func ownGroup(*exec.Cmd) {}

func killProcess(int) {}
