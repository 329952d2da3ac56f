package composessh

import (
	"context"
	"errors"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// pauseScript pauses or resumes the containers of all services but the one for files; one of the moment, for a connection, is of
// none. NAME OWNER DO.
const pauseScript = `
list=$(containers "$1" "$2") || exit 1
ids=$(printf '%s\n' "$list" | while read -r id _ service; do case $service in "" | sandboxer-files) ;; *) echo "$id" ;; esac; done)
for id in $ids; do
	state=$(engine inspect --format '{{.State.Status}}' "$id") || exit 1
	case $3-$state in
	pause-running | pause-restarting) freeze "$id" || exit 1 ;;
	resume-paused) engine unpause "$id" >/dev/null || exit 1 ;;
	resume-exited | resume-created) engine start "$id" >/dev/null || exit 1 ;;
	esac
done
`

// Pause freezes the processes of all services; memory and network connections stay. The lifetime goes on.
func (e *extension) Pause(ctx context.Context, t sandboxer.Target) error {
	b, err := e.open(ctx, t)
	if err != nil {
		return err
	}
	_, err = b.run(ctx, "pausing "+b.name, pauseScript, b.name, t.Labels[sandboxer.LabelOwner], "pause")
	return err
}

// Resume lets them go on, starts what a restart of the host has ended, and waits until all is ready.
func (e *extension) Resume(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	b, err := e.open(ctx, t)
	if err != nil {
		return sandboxer.Reachability{}, err
	}
	if _, err := b.run(ctx, "resuming "+b.name, pauseScript, b.name, t.Labels[sandboxer.LabelOwner], "resume"); err != nil {
		return sandboxer.Reachability{}, err
	}
	return e.waitReady(ctx, t, true)
}

// extendScript stores a deadline and the claim that says the same. NAME SECONDS CLAIM.
const extendScript = `
at=$ROOT/$1
there() { [ -e "$at/claim.json" ] && [ ! -e "$at/removing" ]; }
there || { echo gone; exit 0; }
lock "$1" 30 || { echo "another process works on $at" >&2; exit 1; }
there || { echo gone; exit 0; } # a removal that has begun goes on
put "$at/deadline" $(($(date +%s) + $2)) && put "$at/claim.json" "$3"
`

// Extend moves the instant at which the host removes the sandbox, never to an earlier one.
func (e *extension) Extend(ctx context.Context, t sandboxer.Target, until time.Time) (time.Time, error) {
	b, err := e.open(ctx, t)
	if err != nil {
		return time.Time{}, err
	}
	f, err := b.look(ctx, b.name)
	switch {
	case err != nil:
		return time.Time{}, err
	case f == nil || f.removing || f.claim.Token != b.token:
		return time.Time{}, b.gone(b.name)
	case f.claim.ExpiresAt.IsZero():
		return until, nil // it has no end; what was asked for holds
	case !until.After(f.claim.ExpiresAt):
		return f.claim.ExpiresAt, nil
	}
	f.claim.ExpiresAt = until.UTC().Round(0)
	text, err := marshal(f.claim)
	if err != nil {
		return time.Time{}, err
	}
	out, err := b.run(ctx, "extending "+b.name, removeLib+extendScript, b.name, seconds(until), text)
	if err != nil {
		return time.Time{}, err
	}
	if out != "" {
		return time.Time{}, b.gone(b.name)
	}
	return f.claim.ExpiresAt, nil
}

var errPaused = errors.New("it is paused; resume it first")
