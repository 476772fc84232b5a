// The upstream of the benchmark: node stub.js PORT [CHUNK_DELAY_MS]
//
// Answers every chat completion with the same bytes, as JSON or as 64 SSE chunks, each written by itself. It speaks just
// enough HTTP/1.1 over a bare socket: it has to be cheaper than whatever stands in front of it. GET /stub/counts tells
// how many completions it began (`started`) and how many are being answered (`active`).
'use strict';
const net = require('net');

const PORT = Number(process.argv[2]);
const CHUNK_DELAY_MS = Number(process.argv[3] || 0);
const CHUNKS = 64;
const USAGE = {prompt_tokens: 25, completion_tokens: CHUNKS, total_tokens: 25 + CHUNKS};
const named = (object) => ({id: 'chatcmpl-1', object, created: 1700000000, model: 'stub'});
const TEXT = 'The quick brown fox jumps over the lazy dog and then some. '.repeat(5);

const answer = (body, type = 'application/json') =>
  Buffer.from(`HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
const framed = (text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
const event = (delta, finish_reason, more = {}) => 'data: ' + JSON.stringify(
  {...named('chat.completion.chunk'), choices: [{index: 0, delta, finish_reason}], ...more}) + '\n\n';

const COMPLETION = answer(JSON.stringify({
  ...named('chat.completion'),
  choices: [{index: 0, message: {role: 'assistant', content: TEXT}, finish_reason: 'stop', logprobs: null}],
  usage: USAGE,
}));
const STREAM_HEAD = Buffer.from('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n');
const STREAM = Array.from({length: CHUNKS}, (_, i) => Buffer.from(framed(event(
  i === 0 ? {role: 'assistant', content: 'token0 '} : {content: `token${i} `}, null))));
STREAM[0] = Buffer.concat([STREAM_HEAD, STREAM[0]]);
STREAM.push(Buffer.from(framed(event({}, 'stop', {usage: USAGE}) + 'data: [DONE]\n\n') + '0\r\n\r\n'));
const MODELS = answer(JSON.stringify(
  {object: 'list', data: [{id: 'stub', object: 'model', created: 1, owned_by: 'bench'}]}));
// What routers of model servers ask before they send traffic.
const SERVER_INFO = answer('{"model_path":"stub","status":"ok","is_generation":true}');

let started = 0;
let active = 0;

/** The length of the first whole request in `text` and where its body begins, or null while more is to come. */
function wholeRequest(text) {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return null;
  const start = head + 4;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, start));
  if (length) return text.length >= start + Number(length[1]) ? {start, end: start + Number(length[1])} : null;
  if (!/\r\ntransfer-encoding: *chunked/i.test(text.slice(0, start))) return {start, end: start};
  const last = text.indexOf('0\r\n\r\n', start);
  return last < 0 ? null : {start, end: last + 5};
}

function stream(socket, done) {
  let next = 0;
  const turn = CHUNK_DELAY_MS ? () => setTimeout(write, CHUNK_DELAY_MS) : () => setImmediate(write);
  const write = () => {
    if (socket.destroyed) return done();
    const more = socket.write(STREAM[next++]);
    if (next === STREAM.length) return done();
    if (more) return turn();
    socket.once('drain', turn);
  };
  socket.once('close', done);
  write();
}

function respond(socket, method, path, body) {
  if (method !== 'POST') {
    if (path === '/stub/counts') return socket.write(answer(JSON.stringify({started, active})));
    return socket.write(path.startsWith('/v1/models') ? MODELS : SERVER_INFO);
  }
  started++;
  if (!/"stream": ?true/.test(body)) return socket.write(COMPLETION);
  active++;
  let ended = false;
  const done = () => {
    if (ended) return;
    ended = true;
    active--;
    socket.removeListener('close', done);
  };
  stream(socket, done);
}

net.createServer({noDelay: true}, (socket) => {
  let pending = '';
  socket.setEncoding('latin1');
  socket.on('data', (data) => {
    pending += data;
    for (let request; (request = wholeRequest(pending)) !== null;) {
      const [method, path, version] = pending.slice(0, pending.indexOf('\r\n')).split(' ');
      if (version !== 'HTTP/1.1') return socket.destroy(); // an HTTP/2 preface, say: routers try
      const body = pending.slice(request.start, request.end);
      pending = pending.slice(request.end);
      respond(socket, method, path, body);
    }
  });
  socket.on('error', () => socket.destroy());
}).listen(PORT, '127.0.0.1', 4096, () => console.log('listening'));
