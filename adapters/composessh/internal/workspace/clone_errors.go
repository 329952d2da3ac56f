package workspace

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// errShallow says that the server takes no request without history.
var errShallow = errors.New("the server does not serve a commit without its history")

// complaint is something that git or ssh says (in the C locale), what it means, and what to do.
type complaint struct {
	says string
	code sandboxer.Code
	help string
}

// The first that is found in the newest line counts; git 2.17 to 2.47 and OpenSSH 7.6 to 9.9 say these.
var complaints = []complaint{
	{"Host key verification failed", sandboxer.FailedPrecondition, "the host does not know the key of the repository's server, or it has changed: give its known_hosts line as an input, after comparing the fingerprint with what the server's owner publishes"},
	{"Permission denied (", sandboxer.Unauthenticated, "the server takes no key that was offered; give a private key as git_credential"},
	{"Authentication failed", sandboxer.Unauthenticated, "the server refuses the credential"},
	{"could not read Username", sandboxer.Unauthenticated, "the server asks for a credential; give one as git_credential"},
	{"could not read Password", sandboxer.Unauthenticated, "the server asks for a credential; give one as git_credential"},
	{"returned error: 401", sandboxer.Unauthenticated, "the server refuses the credential"},
	{"returned error: 403", sandboxer.PermissionDenied, "the server does not allow it; a rate limit looks the same at some"},
	{"returned error: 429", sandboxer.ResourceExhausted, "the server has had too many requests"},
	{"returned error: 5", sandboxer.Unavailable, "the repository's server failed"},
	{"Remote branch", sandboxer.InvalidArgument, refHelp},
	{"couldn't find remote ref", sandboxer.InvalidArgument, refHelp},
	{"not our ref", sandboxer.InvalidArgument, refHelp},
	{"reference is not a tree", sandboxer.InvalidArgument, refHelp},
	{"unable to read tree", sandboxer.InvalidArgument, refHelp},
	{"is not a commit and a branch", sandboxer.InvalidArgument, refHelp},
	{"does not appear to be a git repository", sandboxer.InvalidArgument, repoHelp},
	{"epository not found", sandboxer.InvalidArgument, repoHelp},
	{"' not found", sandboxer.InvalidArgument, repoHelp},
	{"repository not exported", sandboxer.InvalidArgument, repoHelp},
	{"returned error: 404", sandboxer.InvalidArgument, repoHelp},
	{"not valid: is this a git repository", sandboxer.InvalidArgument, "there is no repository at this URL"},
	{"' not allowed", sandboxer.InvalidArgument, "it leads to another protocol than the source's"},
	{"unable to find remote helper", sandboxer.FailedPrecondition, "the git on the host was built without this protocol; install the git package of its distribution"},
	{"is not a git command", sandboxer.FailedPrecondition, "the git on the host is not complete; install the git package of its distribution"},
	{"cannot run ssh", sandboxer.FailedPrecondition, "there is no ssh on the host; install openssh-client"},
	{"ssh: not found", sandboxer.FailedPrecondition, "there is no ssh on the host; install openssh-client"},
	{"ssh: command not found", sandboxer.FailedPrecondition, "there is no ssh on the host; install openssh-client"},
	{"certificate", sandboxer.FailedPrecondition, "the host does not trust the certificate of the repository's server; install ca-certificates there, or give the authority"},
	{"No space left", sandboxer.ResourceExhausted, "the disk of the host is full"},
	{"quota exceeded", sandboxer.ResourceExhausted, "the disk quota on the host is used up"},
	{"Could not resolve", sandboxer.Unavailable, noServer},
	{"Temporary failure in name resolution", sandboxer.Unavailable, noServer},
	{"Name or service not known", sandboxer.Unavailable, noServer},
	{"unable to look up", sandboxer.Unavailable, noServer},
	{"Failed to connect", sandboxer.Unavailable, noServer},
	{"unable to connect", sandboxer.Unavailable, noServer},
	{"Couldn't connect", sandboxer.Unavailable, noServer},
	{"onnection refused", sandboxer.Unavailable, noServer},
	{"onnection reset", sandboxer.Unavailable, noServer},
	{"onnection closed", sandboxer.Unavailable, noServer},
	{"timed out", sandboxer.Unavailable, noServer},
	{"No route to host", sandboxer.Unavailable, noServer},
	{"etwork is unreachable", sandboxer.Unavailable, noServer},
	{"Empty reply from server", sandboxer.Unavailable, noServer},
}

// What is only said when nothing else was.
var lastComplaints = []complaint{
	{"early EOF", sandboxer.Unavailable, "the transfer broke off"},
	{"RPC failed", sandboxer.Unavailable, "the transfer broke off"},
	{"hung up", sandboxer.Unavailable, "the repository's server ended the connection"},
	{"Could not read from remote", sandboxer.Unavailable, "the repository's server ended the connection"},
	{"ermission denied", sandboxer.PermissionDenied, "the login may not write there"},
	{"unable to access", sandboxer.Unavailable, noServer},
}

const (
	refHelp  = "there is no such ref; name a branch, a tag or a full commit (40 digits)"
	repoHelp = "there is no such repository, or the credential does not see it"
	noServer = "the host does not reach the repository's server"
)

// The ways in which servers refuse to leave history out.
var shallowComplaints = []string{
	"does not allow request for unadvertised object", "does not support shallow", "dumb http transport does not support",
}

// explain makes the error of a clone that failed. The lines come from the other side.
func (c *clone) explain(result sandboxer.ExecResult, lines []string) error {
	var own []string // of git and ssh; what the server says counts for nothing
	for _, l := range lines {
		if !strings.HasPrefix(l, "remote: ") {
			own = append(own, l)
		}
	}
	last := "nothing"
	if len(lines) > 0 {
		last = printable(lines[len(lines)-1])
	}
	if len(own) > 0 {
		last = printable(own[len(own)-1])
	}
	what := "clone of " + c.s.String()
	switch result.ExitCode {
	case exitMissing:
		return failed(c.r, sandboxer.FailedPrecondition, "%s needs git on the host, and there is no %s; install it (apt-get install %[2]s)", what, last)
	case exitTaken:
		return failed(c.r, sandboxer.AlreadyExists, "%s: there is something else in %s already", what, c.dir)
	case exitNoDir:
		return failed(c.r, sandboxer.FailedPrecondition, "%s: make a directory beside %s: %s", what, c.dir, last)
	}
	for _, l := range own {
		for _, s := range shallowComplaints {
			if strings.Contains(l, s) {
				return failed(c.r, sandboxer.FailedPrecondition, "%s: %w: %s", what, errShallow, printable(l))
			}
		}
	}
	for _, table := range [][]complaint{complaints, lastComplaints} {
		for i := len(own) - 1; i >= 0; i-- {
			for _, k := range table {
				if strings.Contains(own[i], k.says) {
					return failed(c.r, k.code, "%s: %s; git says: %s", what, k.help, printable(own[i]))
				}
			}
		}
	}
	if len(own) > 1 {
		last = printable(own[len(own)-2]) + " / " + last
	}
	return failed(c.r, sandboxer.Unknown, "%s failed (%s): %s", what, fmt.Sprint(result.Err()), last)
}
