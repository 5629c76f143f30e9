// Loaded by Node before the app (NODE_OPTIONS=--require): versions of Node that do not read
// HTTP_PROXY and HTTPS_PROXY themselves are sent through them here, by CONNECT. It covers the
// built-in fetch, undici's global dispatcher, and http and https with their usual agents; not an
// agent or dispatcher that the app makes itself.
'use strict';
(() => {
  const { env, versions } = process;
  const [major, minor] = versions.node.split('.').map(Number);
  const own = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
  if (own && env.NODE_USE_ENV_PROXY) return;
  const named = env.https_proxy || env.HTTPS_PROXY || env.http_proxy || env.HTTP_PROXY;
  if (!named) return;
  let proxy;
  try {
    proxy = new URL(named);
  } catch {
    return;
  }
  if (proxy.protocol !== 'http:') return;
  const http = require('node:http');
  const https = require('node:https');
  const net = require('node:net');
  const tls = require('node:tls');

  const plain = (host) => host.replace(/^\[|\]$/g, '').toLowerCase();
  const around = (env.no_proxy || env.NO_PROXY || '').split(/[\s,]+/).filter(Boolean).map((entry) => {
    const [, host, port] = /^(.*?)(?::(\d+))?$/.exec(entry.includes('::') ? entry : entry.replace(/^\*?\./, '.'));
    return { host: plain(host || entry), port };
  });
  const direct = (host, port) => around.some((entry) =>
    entry.host === '*' ||
    ((!entry.port || entry.port === String(port)) &&
      (plain(host) === entry.host || plain(host).endsWith(entry.host.startsWith('.') ? entry.host : `.${entry.host}`))));

  const through = (options, secure, done) => {
    const host = plain(String(options.hostname || options.host || 'localhost'));
    const port = Number(options.port) || (secure ? 443 : 80);
    let over = (error, socket) => {
      over = () => {};
      done(error, socket);
    };
    const finish = (raw) => {
      if (!secure) return over(null, raw);
      const name = options.servername || (net.isIP(host) ? '' : host);
      const socket = tls.connect({ ...options, socket: raw, path: undefined, host, port, servername: name });
      socket.once('error', (error) => over(error));
      socket.once('secureConnect', () => over(null, socket));
    };
    if (options.socketPath) {
      return over(null, net.connect({ path: options.socketPath }));
    }
    if (direct(host, port)) {
      const raw = net.connect({ host, port, family: options.family, lookup: options.lookup });
      raw.once('error', (error) => over(error));
      raw.once('connect', () => finish(raw));
      return;
    }
    const place = net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
    const call = http.request({
      host: plain(proxy.hostname),
      port: Number(proxy.port) || 80,
      method: 'CONNECT',
      path: place,
      headers: { host: place },
      // No agent: it would come back here.
      createConnection: (to) => net.connect({ host: to.host, port: to.port }),
    });
    call.once('error', (error) => over(error));
    call.once('connect', (answer, raw, first) => {
      if (answer.statusCode !== 200) {
        raw.destroy();
        return over(new Error(`the proxy ${proxy.host} answered ${answer.statusCode} to CONNECT ${place}`));
      }
      if (first.length) raw.unshift(first);
      finish(raw);
    });
    call.end();
  };

  // Agents of http and https: only where their connections come from is changed.
  for (const [module, secure] of [[http, false], [https, true]]) {
    const { Agent } = module;
    const usual = Agent.prototype.createConnection;
    Agent.prototype.createConnection = function createConnection(options, done) {
      if (!done || options.socketPath) return usual.call(this, options, done);
      through(options, secure, done);
      return undefined;
    };
  }

  // fetch and undici share one dispatcher by this symbol.
  const shared = Symbol.for('undici.globalDispatcher.1');
  const connect = (options, done) => {
    const secure = options.protocol === 'https:';
    through({ ...options, ALPNProtocols: ['http/1.1'] }, secure, (error, socket) => {
      if (error) return done(error);
      socket.setNoDelay(true);
      done(null, socket);
    });
  };
  const usual = globalThis.fetch;
  let ready = false;
  const prepare = () => {
    if (ready) return;
    ready = true;
    try {
      // The dispatcher comes into being with the first call.
      usual('data:,').catch(() => {});
      const dispatcher = globalThis[shared];
      if (dispatcher && dispatcher.constructor && dispatcher.constructor.name === 'Agent') {
        globalThis[shared] = new dispatcher.constructor({ connect });
      }
    } catch {
      // A Node that keeps its dispatcher elsewhere: fetch goes its own way.
    }
  };
  if (usual) {
    globalThis.fetch = function fetch(...given) {
      prepare();
      return usual.apply(this, given);
    };
  }
})();
