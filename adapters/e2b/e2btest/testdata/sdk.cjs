// Drives a server with E2B's official JavaScript SDK. Arguments: the directory that the SDK is installed in.
// Environment: E2B_API_KEY, E2B_API_URL, E2B_SANDBOX_URL. Prints one line for each check; the first failure ends it.
const assert = require('node:assert/strict')
const path = require('node:path')
const { createRequire } = require('node:module')
const e2b = createRequire(path.join(process.argv[2], 'index.js'))('e2b')
const { Sandbox } = e2b

async function check(name, f) {
  try {
    await f()
    console.log('ok ' + name)
  } catch (err) {
    console.log('FAILED ' + name + ': ' + (err && err.stack ? err.stack : err))
    process.exit(1)
  }
}

async function main() {
  const meta = { owner: 'c i&x', 'sandboxer-name': 'sdk' }
  let sbx
  await check('create', async () => {
    sbx = await Sandbox.create({ timeoutMs: 120_000, metadata: meta, envs: { GREETING: 'hello' } })
    assert.ok(sbx.sandboxId)
    assert.equal(await sbx.isRunning(), true)
  })
  await check('unknown template', () => assert.rejects(Sandbox.create('no-such-template'), (e) => e.statusCode === 404 || /404/.test(e.message)))
  await check('wrong key', () => assert.rejects(Sandbox.create({ apiKey: 'e2b_0000000000' }), e2b.AuthenticationError))
  await check('info', async () => {
    const info = await sbx.getInfo()
    assert.equal(info.state, 'running')
    assert.deepEqual(info.metadata, meta)
    const left = info.endAt.getTime() - Date.now()
    assert.ok(left > 100_000 && left <= 121_000, 'ends in ' + left)
  })
  await check('list by metadata', async () => {
    const found = await Sandbox.list({ query: { metadata: { owner: 'c i&x' } } }).nextItems()
    assert.deepEqual(found.map((s) => s.sandboxId), [sbx.sandboxId])
    const none = await Sandbox.list({ query: { metadata: { owner: 'c i' } } }).nextItems()
    assert.equal(none.length, 0)
  })
  await check('paging', async () => {
    const more = await Promise.all([1, 2, 3].map(() => Sandbox.create({ metadata: { page: 'yes' } })))
    const pages = Sandbox.list({ query: { metadata: { page: 'yes' } }, limit: 2 })
    const seen = []
    while (pages.hasNext) seen.push(...(await pages.nextItems()).map((s) => s.sandboxId))
    assert.deepEqual(seen.sort(), more.map((s) => s.sandboxId).sort())
    await Promise.all(more.map((s) => s.kill()))
  })

  await check('exec', async () => {
    const r = await sbx.commands.run('echo $GREETING; echo oops >&2; pwd', { envs: { X: 'y' } })
    assert.equal(r.exitCode, 0)
    assert.match(r.stdout, /^hello\n/)
    assert.equal(r.stderr, 'oops\n')
  })
  await check('exit code', () => assert.rejects(sbx.commands.run('exit 3'), (e) => e instanceof e2b.CommandExitError && e.exitCode === 3))
  await check('unknown command is 127', () => assert.rejects(sbx.commands.run('no-such-command'), (e) => e.exitCode === 127))
  await check('streams', async () => {
    let out = ''
    const r = await sbx.commands.run('for i in 1 2 3; do echo $i; done', { onStdout: (s) => (out += s) })
    assert.equal(out, '1\n2\n3\n')
    assert.equal(r.stdout, out)
  })
  await check('large output', async () => {
    const r = await sbx.commands.run('head -c 1000000 /dev/zero | tr "\\0" x')
    assert.equal(r.stdout.length, 1_000_000)
  })
  await check('stdin', async () => {
    const h = await sbx.commands.run('cat', { background: true, stdin: true })
    await sbx.commands.sendStdin(h.pid, 'one\n')
    await sbx.commands.sendStdin(h.pid, 'two\n')
    await sbx.commands.closeStdin(h.pid)
    assert.equal((await h.wait()).stdout, 'one\ntwo\n')
  })
  await check('list, connect and kill', async () => {
    const h = await sbx.commands.run('sleep 60', { background: true })
    assert.ok((await sbx.commands.list()).some((p) => p.pid === h.pid))
    const again = await sbx.commands.connect(h.pid)
    const end = assert.rejects(again.wait(), (e) => e.exitCode === -1 && /signal: killed/.test(e.message))
    assert.equal(await sbx.commands.kill(h.pid), true)
    await end
    await assert.rejects(h.wait(), (e) => e.exitCode === -1)
    assert.equal(await sbx.commands.kill(h.pid), false)
  })
  await check('time limit', () => assert.rejects(sbx.commands.run('sleep 60', { timeoutMs: 300 }), e2b.TimeoutError))
  await check('cwd that is missing', () => assert.rejects(sbx.commands.run('true', { cwd: '/no/such/dir' }), e2b.InvalidArgumentError))
  await check('terminal', async () => {
    let out = ''
    const h = await sbx.pty.create({ cols: 80, rows: 24, onData: (d) => (out += Buffer.from(d).toString()) })
    await sbx.pty.resize(h.pid, { cols: 100, rows: 30 })
    await sbx.pty.sendInput(h.pid, Buffer.from('stty size; exit 0\n'))
    await h.wait()
    assert.match(out, /30 100/)
  })

  await check('files', async () => {
    const w = await sbx.files.write('dir/a.txt', 'content')
    assert.equal(w.name, 'a.txt')
    assert.equal(await sbx.files.read('dir/a.txt'), 'content')
    assert.equal((await sbx.commands.run('cat dir/a.txt')).stdout, 'content')
    await sbx.files.write([{ path: 'dir/b', data: 'b' }, { path: 'dir/c', data: 'c' }])
    assert.deepEqual((await sbx.files.list('dir')).map((f) => f.name).sort(), ['a.txt', 'b', 'c'])
    assert.equal((await sbx.files.getInfo('dir/a.txt')).size, 7)
    await sbx.files.write('dir/z', 'zipped', { gzip: true })
    assert.equal(await sbx.files.read('dir/z'), 'zipped')
    await sbx.files.write('empty', '')
    assert.equal(await sbx.files.read('empty'), '')
  })
  await check('directories', async () => {
    assert.equal(await sbx.files.makeDir('made/deep'), true)
    assert.equal(await sbx.files.makeDir('made/deep'), false)
    assert.equal((await sbx.files.rename('dir/b', 'made/b')).name, 'b')
    assert.equal(await sbx.files.exists('dir/b'), false)
    await sbx.files.remove('made')
    assert.equal(await sbx.files.exists('made'), false)
  })
  await check('missing file', () => assert.rejects(sbx.files.read('nope'), e2b.NotFoundError))
  await check('signed link', async () => {
    const url = await sbx.downloadUrl('dir/a.txt')
    const headers = { 'E2b-Sandbox-Id': sbx.sandboxId, 'E2b-Sandbox-Port': '49983' }
    assert.equal(await (await fetch(url, { headers })).text(), 'content')
    assert.equal((await fetch(url.replace('signature=v1_', 'signature=v1_x'), { headers })).status, 401)
  })

  await check('set timeout', async () => {
    await sbx.setTimeout(600_000)
    const left = (await sbx.getInfo()).endAt.getTime() - Date.now()
    assert.ok(left > 590_000, 'ends in ' + left)
  })
  await check('connect never shortens', async () => {
    await Sandbox.connect(sbx.sandboxId, { timeoutMs: 1000 })
    const left = (await sbx.getInfo()).endAt.getTime() - Date.now()
    assert.ok(left > 590_000, 'ends in ' + left)
  })
  await check('pause', async () => {
    assert.equal(await sbx.pause(), true)
    assert.equal(await sbx.pause(), false)
    assert.equal((await sbx.getInfo()).state, 'paused')
    assert.equal(await sbx.isRunning(), false)
    await assert.rejects(sbx.setTimeout(1000), e2b.NotFoundError)
    const paused = await Sandbox.list({ query: { state: ['paused'] } }).nextItems()
    assert.deepEqual(paused.map((s) => s.sandboxId), [sbx.sandboxId])
  })
  await check('resume', async () => {
    sbx = await Sandbox.connect(sbx.sandboxId, { timeoutMs: 60_000 })
    assert.equal(await sbx.files.read('dir/a.txt'), 'content')
  })
  await check('snapshot', async () => {
    const snap = await sbx.createSnapshot({ name: 'from-the-sdk' })
    const listed = await Sandbox.listSnapshots({ sandboxId: sbx.sandboxId }).nextItems()
    assert.deepEqual(listed.map((s) => s.snapshotId), [snap.snapshotId])
    const copy = await Sandbox.create(snap.snapshotId)
    assert.equal(await copy.files.read('dir/a.txt'), 'content')
    await assert.rejects(Sandbox.deleteSnapshot(snap.snapshotId), (e) => /400/.test(e.message))
    await copy.kill()
    assert.equal(await Sandbox.deleteSnapshot(snap.snapshotId), true)
    assert.equal(await Sandbox.deleteSnapshot(snap.snapshotId), false)
  })
  await check('deadline', async () => {
    const short = await Sandbox.create({ timeoutMs: 1000 })
    for (let i = 0; i < 50 && (await short.isRunning()); i++) await new Promise((r) => setTimeout(r, 100))
    assert.equal(await short.isRunning(), false)
    await assert.rejects(short.commands.run('true'), e2b.SandboxNotFoundError)
  })
  await check('kill', async () => {
    assert.equal(await sbx.kill(), true)
    assert.equal(await sbx.kill(), false)
    assert.equal(await sbx.isRunning(), false)
  })
  console.log('all')
}

main().then(() => process.exit(0))
