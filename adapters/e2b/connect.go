package e2b

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sand-boxer/sandboxer"
)

// The framing of the Connect protocol: each message has a flag and a length of four bytes before it.
// https://connectrpc.com/docs/protocol, August 2026.
const (
	flagCompressed = 1
	flagEnd        = 2
	maxFrame       = 16 << 20
)

// envelope frames one message.
func envelope(text []byte) []byte {
	out := make([]byte, 5, 5+len(text))
	binary.BigEndian.PutUint32(out[1:], uint32(len(text)))
	return append(out, text...)
}

// frames reads a stream of messages.
type frames struct {
	r   io.Reader
	buf []byte
}

// next returns the next message; it is valid until the call after. end reports that it is the last one, which says how
// the call ended. A stream that stops without one is io.ErrUnexpectedEOF.
func (f *frames) next() (text []byte, end bool, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return nil, false, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("a message of %d bytes in the stream; at most %d are taken", n, maxFrame))
	}
	if head[0]&flagCompressed != 0 {
		return nil, false, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("a compressed message in the stream, which was not asked for"))
	}
	// Grown as bytes arrive: a length alone allocates nothing.
	f.buf = f.buf[:0]
	for len(f.buf) < int(n) {
		have := len(f.buf)
		step := min(int(n)-have, 64<<10)
		if cap(f.buf) < have+step {
			grown := make([]byte, have, max(2*cap(f.buf), have+step))
			copy(grown, f.buf)
			f.buf = grown
		}
		f.buf = f.buf[:have+step]
		if _, err := io.ReadFull(f.r, f.buf[have:]); err != nil {
			return nil, false, io.ErrUnexpectedEOF
		}
	}
	return f.buf, head[0]&flagEnd != 0, nil
}

// processEvent is one message about a running process.
type processEvent struct {
	Event struct {
		Start *struct {
			PID uint32 `json:"pid"`
		} `json:"start"`
		Data *struct {
			Stdout []byte `json:"stdout"`
			Stderr []byte `json:"stderr"`
			PTY    []byte `json:"pty"`
		} `json:"data"`
		End *processEnd `json:"end"`
	} `json:"event"`
}

// processEnd is how a process ended. ExitCode is left out when it is 0.
type processEnd struct {
	ExitCode int    `json:"exitCode"`
	Exited   bool   `json:"exited"`
	Status   string `json:"status"`
	Error    string `json:"error"`
}

func decodeEvent(text []byte) (processEvent, error) {
	var ev processEvent
	if err := json.Unmarshal(text, &ev); err != nil {
		return ev, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the stream holds something that is no message: %w", err))
	}
	return ev, nil
}

// trailer reads the last message: nil, or the error that ended the call.
func trailer(text []byte) (*rpcError, error) {
	var t struct {
		Error *rpcError `json:"error"`
	}
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the end of the stream is no message: %w", err))
	}
	return t.Error, nil
}
