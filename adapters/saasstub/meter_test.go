package saasstub_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/saasstub"
)

// TestMeter: paused time is free, the native end stops the meter, and it answers when the sandbox is gone.
func TestMeter(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, saasstub.Options{Now: c.Now}, nil)
	from := c.Now()
	req := request("one")
	req.ExpiresAt = from.Add(10 * time.Hour)
	sbx := made(t, s, req)
	read := func(want string, at time.Time, final bool) {
		t.Helper()
		r, err := s.MeterActual(t.Context(), sbx)
		if err != nil {
			t.Fatal(err)
		}
		if r.Total != money(t, want) || !r.From.Equal(from) || !r.To.Equal(at) || r.Final != final {
			t.Errorf("reading %v from %v to %v, final %v; want %s to %v, final %v", r.Total, r.From, r.To, r.Final, want, at, final)
		}
		if sum, err := sandboxer.SumLines(r.Lines); err != nil || sum != r.Total {
			t.Errorf("the lines sum up to %v (%v), not to %v", sum, err, r.Total)
		}
	}
	read("0.00 USD", from, false)
	read("0.1656 USD", c.move(time.Hour), false)
	for range 2 {
		if err := s.Pause(t.Context(), sbx); err != nil {
			t.Fatal(err)
		}
	}
	read("0.1656 USD", c.move(time.Hour), false)
	if _, err := s.Resume(t.Context(), sbx); err != nil {
		t.Fatal(err)
	}
	read("0.3312 USD", c.move(time.Hour), false)
	before := c.Now()
	c.move(-2 * time.Hour)
	read("0.3312 USD", before, false)
	c.move(100 * time.Hour)
	read("1.4904 USD", from.Add(10*time.Hour), true)
	_, err := s.Inspect(t.Context(), sbx)
	wantCode(t, err, sandboxer.NotFound)
	if _, err := s.Teardown(t.Context(), sbx); err != nil {
		t.Error(err)
	}
	read("1.4904 USD", from.Add(10*time.Hour), true)
	other := sbx
	other.Labels = map[string]string{sandboxer.LabelOwner: "other.store"}
	_, err = s.MeterActual(t.Context(), other)
	wantCode(t, err, sandboxer.NotFound)
}

// TestMeterNeverFalls against random histories, clocks that go back among them.
func TestMeterNeverFalls(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := newClock()
		s := open(t, saasstub.Options{Now: c.Now}, nil)
		sbx := made(t, s, request("one"))
		last := sandboxer.MeterReading{}
		running, used := true, time.Duration(0)
		honest := true
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				running = false
				if err := s.Pause(rt.Context(), sbx); err != nil {
					rt.Fatal(err)
				}
			case 1:
				running = true
				if _, err := s.Resume(rt.Context(), sbx); err != nil {
					rt.Fatal(err)
				}
			case 2:
				c.move(-time.Duration(rapid.IntRange(1, 1e6).Draw(rt, "back")) * time.Microsecond)
				honest = false
			default:
				d := time.Duration(rapid.IntRange(0, 1e9).Draw(rt, "on")) * time.Microsecond
				c.move(d)
				if running {
					used += d
				}
			}
			r, err := s.MeterActual(rt.Context(), sbx)
			if err != nil {
				rt.Fatal(err)
			}
			if cmp, err := r.Total.Cmp(last.Total); err != nil || cmp < 0 {
				rt.Fatalf("fell from %v to %v (%v)", last.Total, r.Total, err)
			}
			for i, l := range last.Lines {
				if r.Lines[i].Micros < l.Micros {
					rt.Fatalf("%s fell from %d to %d", l.Item, l.Micros, r.Lines[i].Micros)
				}
			}
			if honest {
				if got := r.Lines[0].Micros; got != 2*used.Microseconds() {
					rt.Fatalf("%d millionths of a vCPU-second in %v of two", got, used)
				}
			}
			last = r
		}
	})
}
