// probe.mjs health PORT      exit status 0 when Dozo answers on this machine
// probe.mjs free PORT ...    prints the first port that can be opened
import { createServer } from 'node:net';
import { get } from 'node:https';

const [verb, ...ports] = process.argv.slice(2).map((word, index) => (index === 0 ? word : Number(word)));

if (verb === 'health') {
  const request = get(
    // The certificate is our own, the machine is this one.
    { host: '127.0.0.1', port: ports[0], path: '/api/v1/health', rejectUnauthorized: false, timeout: 5000 },
    (response) => process.exit(response.statusCode === 200 ? 0 : 1),
  );
  request.on('timeout', () => process.exit(1));
  request.on('error', () => process.exit(1));
} else {
  for (const port of ports) {
    const isFree = await new Promise((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '0.0.0.0', () => server.close(() => resolve(true)));
    });
    if (isFree) {
      console.log(port);
      process.exit(0);
    }
  }
  process.exit(1);
}
