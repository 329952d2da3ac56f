package sshx

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/sand-boxer/sandboxer"
)

// hostKeys is what is known about a server's keys: known_hosts files, and keys that the configuration gives for this host.
type hostKeys struct {
	lookup string // host:port under which the files are asked
	files  []string
	fixed  []ssh.PublicKey
}

// readHostKeys takes apart a host's HostKeys: each is an authorized_keys line, a known_hosts line for this host, or the
// path of a known_hosts file. Without any, the files in known count.
func readHostKeys(entries []string, lookup string, known []string) (*hostKeys, error) {
	k := &hostKeys{lookup: lookup}
	for i, entry := range entries {
		entry = strings.TrimSpace(entry)
		if entry == "" || strings.HasPrefix(entry, "#") {
			continue
		}
		keys, err := parseKeyLine(entry, lookup)
		if err == nil {
			k.fixed = append(k.fixed, keys...)
			continue
		}
		if strings.ContainsAny(entry, " \t") && !fileExists(entry) {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("host key %d is neither an authorized_keys line nor a known_hosts file: %w", i+1, err))
		}
		if !fileExists(entry) {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("host key %d: there is no known_hosts file %s", i+1, entry))
		}
		k.files = append(k.files, entry)
	}
	if len(k.fixed) == 0 && len(k.files) == 0 {
		for _, f := range known {
			if fileExists(f) {
				k.files = append(k.files, f)
			}
		}
	}
	return k, nil
}

func fileExists(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir()
}

// parseKeyLine reads "ssh-ed25519 AAAA… comment", or the same after host patterns.
func parseKeyLine(line, lookup string) ([]ssh.PublicKey, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err == nil && len(bytes.TrimSpace(rest)) == 0 && len(options) == 0 {
		return []ssh.PublicKey{key}, nil
	}
	if err != nil && !strings.ContainsAny(line, " \t") {
		return nil, err
	}
	marker, hosts, key, _, _, err := ssh.ParseKnownHosts([]byte(line))
	if err != nil {
		return nil, err
	}
	if marker != "" {
		return nil, fmt.Errorf("a line that begins with @%s belongs into a known_hosts file", marker)
	}
	for _, h := range hosts {
		if knownhosts.Normalize(h) == knownhosts.Normalize(lookup) {
			return []ssh.PublicKey{key}, nil
		}
	}
	return nil, fmt.Errorf("the line is for %s, not for %s", strings.Join(hosts, ","), knownhosts.Normalize(lookup))
}

// verifier reads the files anew, so that a line that was added counts at the next dial. It returns the check and the
// algorithms to ask for: without them a server that also has keys of other types may show one that is not known.
func (k *hostKeys) verifier() (ssh.HostKeyCallback, []string, error) {
	var check ssh.HostKeyCallback
	var algorithms []string
	if len(k.files) > 0 {
		db, err := knownhosts.NewDB(k.files...)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil, sandboxer.Refused(sandboxer.FailedPrecondition, err)
			}
			return nil, nil, sandboxer.Refused(sandboxer.InvalidArgument, err)
		}
		check = db.HostKeyCallback()
		algorithms = db.HostKeyAlgorithms(k.lookup)
	}
	for _, key := range k.fixed {
		algorithms = append(algorithms, algorithmsOf(key.Type())...)
	}
	if len(algorithms) == 0 {
		// Nothing is known: ask for a plain key, so that there is a line to add.
		for _, a := range ssh.SupportedAlgorithms().HostKeys {
			if !strings.Contains(a, "-cert-") {
				algorithms = append(algorithms, a)
			}
		}
	}
	return func(_ string, remote net.Addr, key ssh.PublicKey) error {
		return k.judge(check, remote, key)
	}, algorithms, nil
}

func (k *hostKeys) judge(check ssh.HostKeyCallback, remote net.Addr, key ssh.PublicKey) error {
	var fromFiles error = &xknownhosts.KeyError{}
	if check != nil {
		// Behind a jump host there is no address of the server; the name is what counts.
		if _, ok := remote.(*net.TCPAddr); !ok {
			remote = &net.TCPAddr{IP: net.IPv4zero}
		}
		fromFiles = check(k.lookup, remote, key)
	}
	var revoked *xknownhosts.RevokedError
	isRevoked := errors.As(fromFiles, &revoked)
	if !isRevoked {
		if fromFiles == nil {
			return nil
		}
		for _, known := range k.fixed {
			if bytes.Equal(known.Marshal(), key.Marshal()) {
				return nil
			}
		}
	}
	e := &HostKeyError{
		Host:        knownhosts.Normalize(k.lookup),
		Fingerprint: ssh.FingerprintSHA256(key),
		KeyType:     key.Type(),
		Line:        knownhosts.Line([]string{k.lookup}, key),
	}
	var mismatch *xknownhosts.KeyError
	switch {
	case isRevoked:
		e.Revoked, e.Known = true, place(revoked.Revoked)
	case errors.As(fromFiles, &mismatch) && len(mismatch.Want) > 0:
		e.Changed, e.Known = true, place(mismatch.Want[0])
	case len(k.fixed) > 0:
		e.Changed, e.Known = true, "the host's configuration"
	case !errors.As(fromFiles, &mismatch):
		return fromFiles // a host certificate that is expired, for another host, or signed by nobody known
	}
	return e
}

func place(k xknownhosts.KnownKey) string { return fmt.Sprintf("%s:%d", k.Filename, k.Line) }

// algorithmsOf returns the signature algorithms that a key of this type can be shown with.
func algorithmsOf(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}
