// Package metering carries what sandboxes did cost from the Manager's store to whoever bills for them. A meter record is
// committed together with the state change it belongs to, and delivered from there at least once under a key that never
// changes. Host applications build a Meter from exporters and hand it to manager.Config; authors of exporters implement
// Exporter.
package metering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/crash"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// outboxKind is the store's kind of records that wait for delivery.
const outboxKind = "outbox"

// Record is the cost of one attempt, or of one stored snapshot, between two instants. All records of an attempt or of a
// snapshot together are its cost, exactly: one that corrects an estimate that was too high has a negative Total.
type Record struct {
	// Key is the same however often it is delivered, and never another record's, also where an ID is used again once its
	// record was dropped: "<attempt name>/<when it was begun>/<n>", "snapshot/<ID>/<when it was taken>/<n>".
	Key       string             `json:"key"`
	Sandbox   sandboxer.ID       `json:"sandbox"`            // of a snapshot: the one that it was taken of
	Snapshot  string             `json:"snapshot,omitempty"` // "": the record is of a sandbox
	Attempt   int                `json:"attempt"`            // 0 for a snapshot
	Profile   string             `json:"profile"`
	Extension string             `json:"extension"`
	Host      string             `json:"host,omitempty"`
	Consumer  sandboxer.Consumer `json:"consumer"`
	Payer     sandboxer.Payer    `json:"payer,omitzero"`
	From      time.Time          `json:"from"`
	To        time.Time          `json:"to"`
	// Lines add up to Total; where those of the backend do not, the record is Estimated. Where they are not known, or too
	// many to keep, one line "total" stands for them.
	Lines []sandboxer.MeterLine `json:"lines,omitempty"`
	Total sandboxer.Money       `json:"total"`
	// Final: the last of its attempt or snapshot. Another follows only where the reaper finds a sandbox whose record has
	// ended, because it was abandoned or its backend was wrong about its removal.
	Final bool `json:"final,omitempty"`
	// Estimated: the backend did not say, and it was worked out from time and prices, and may be more than it was; or what it
	// said contradicts itself, and its Total is taken.
	Estimated bool `json:"estimated,omitempty"`
}

// Exporter hands records on. It is called by one goroutine at a time, may see a record again after a failure or a crash,
// and tells records apart by Key. An error means that none of rs is known to have arrived; they come again.
type Exporter interface {
	Export(ctx context.Context, rs []Record) error
}

// Config configures a Meter.
type Config struct {
	Exporters []Exporter    // at least one; a record leaves the outbox when all took it
	Interval  time.Duration // between deliveries. Defaults to 10 s
	Batch     int           // most records in one Export. Defaults to 100
}

// Meter delivers what a Manager put into its outbox. It has no goroutine of its own: the Manager's drives it.
type Meter struct{ cfg Config }

// New makes a Meter. InvalidArgument without exporters.
func New(cfg Config) (*Meter, error) {
	if len(cfg.Exporters) == 0 {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("metering.Config.Exporters is empty; give one, such as file.Open"))
	}
	if cfg.Interval <= 0 {
		cfg.Interval = 10 * time.Second
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 100
	}
	return &Meter{cfg: cfg}, nil
}

// Interval is the time between deliveries.
func (m *Meter) Interval() time.Duration { return m.cfg.Interval }

// Outbox is the mutation that puts r into the outbox; it belongs into the commit of the state change that it accounts for.
// Where a record under its key waits there the commit is Aborted: what was not delivered yet is never replaced. Lines that
// are too many for a store are added up, or left out; the Total stays.
func Outbox(r Record) (store.Mutation, error) {
	if len(r.Lines) == 0 {
		r.Lines = totalLine(r.Total)
	}
	body, err := json.Marshal(r)
	for _, shorter := range []func(Record) []sandboxer.MeterLine{folded, func(r Record) []sandboxer.MeterLine { return totalLine(r.Total) }} {
		if err != nil || len(body) <= store.MaxBody {
			break
		}
		r.Lines = shorter(r)
		body, err = json.Marshal(r)
	}
	if err != nil {
		return store.Mutation{}, fmt.Errorf("meter record %s: %w", r.Key, err)
	}
	return store.Mutation{Do: store.Put, Key: store.Key{Kind: outboxKind, ID: r.Key}, Body: body}, nil
}

// Deliver exports what waits in the outbox of st and removes what every exporter took. It returns how many records that
// were. What fails stays and is delivered again, by the next call. A record that does not decode, of a newer release perhaps,
// stays as well, with an Internal error that names it, and holds up none behind it.
func (m *Meter) Deliver(ctx context.Context, st store.Store) (delivered int, err error) {
	odd, odds := error(nil), 0
	defer func() {
		if odds > 1 {
			odd = fmt.Errorf("%w, and %d more do not", odd, odds-1)
		}
		if odd != nil {
			err = errors.Join(odd, err)
		}
	}()
	for next := (part{}); ; {
		if next, err = m.next(ctx, st, next.last); err != nil || next.last == "" {
			return delivered, err
		}
		if odds += next.odds; odd == nil {
			odd = next.odd
		}
		if len(next.batch) == 0 {
			continue
		}
		for _, e := range m.cfg.Exporters {
			crash.Point("outbox", "export", "before")
			err := e.Export(ctx, next.batch)
			crash.Point("outbox", "export", "after")
			if err != nil {
				return delivered, fmt.Errorf("export of %d meter records, the first %s: %w", len(next.batch), next.batch[0].Key, err)
			}
		}
		crash.Point("outbox", "remove", "before")
		_, err = st.Commit(context.WithoutCancel(ctx), next.done...)
		crash.Point("outbox", "remove", "after")
		if err != nil {
			return delivered, fmt.Errorf("meter records were exported and will be again, under the same keys: %w", err)
		}
		delivered += len(next.done)
	}
}

// part is a part of the outbox.
type part struct {
	batch []Record
	done  []store.Mutation // removes batch
	odd   error            // the first that does not decode
	odds  int              // how many do not
	last  string           // what the next part is after; empty: this is the end
}

func (m *Meter) next(ctx context.Context, st store.Store, after string) (p part, err error) {
	for rec, err := range st.Scan(ctx, store.Query{Kind: outboxKind, After: after, Limit: m.cfg.Batch}) {
		if err != nil {
			return part{}, err
		}
		p.last = rec.Key.ID
		var r Record
		if err := json.Unmarshal(rec.Body, &r); err != nil {
			if p.odds++; p.odd == nil {
				p.odd = sandboxer.Mark(sandboxer.Internal, fmt.Errorf("meter record %s does not decode: %w", rec.Key.ID, err))
			}
			continue
		}
		p.batch = append(p.batch, r)
		p.done = append(p.done, store.Mutation{Do: store.Delete, Key: rec.Key, Expect: rec.Rev})
	}
	return p, nil
}

// Pending counts the records that wait in the outbox of st.
func Pending(ctx context.Context, st store.Store) (int, error) {
	n := 0
	for _, err := range st.Scan(ctx, store.Query{Kind: outboxKind}) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
