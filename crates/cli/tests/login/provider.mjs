// A real OpenID Connect provider (npm: oidc-provider) for the test of `edgewright login`.
//
// Prints `ready ISSUER`, then obeys lines of its standard input: `rotate` replaces the signing key.
// argv: a port, the audience of access tokens.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, audience] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const GROUPS = { anna: ['line-4'], otto: ['admins'], eva: [] };

function key(kid) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' };
}

const client = (client_id, more) => ({
  client_id,
  application_type: 'native',
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  redirect_uris: ['http://127.0.0.1/callback'],
  ...more,
});

let serial = 0;
function provider() {
  serial += 1;
  const made = new Provider(issuer, {
    clients: [client('edgewright'), client('other')],
    jwks: { keys: [key(`key-${serial}`)] },
    scopes: ['openid', 'offline_access', 'groups'],
    claims: { openid: ['sub'], groups: ['groups'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['a key of the test'] },
    ttl: { IdToken: 3600, AccessToken: 3600, Interaction: 600, Session: 3600, Grant: 3600 },
    features: {
      deviceFlow: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ scope: 'openid groups', audience, accessTokenFormat: 'jwt' }),
      },
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, groups: GROUPS[id] ?? [] }) }),
    issueRefreshToken: async (_, client, code) => code.scopes.has('offline_access'),
  });
  return made.callback();
}

let callback = provider();
createServer((request, response) => callback(request, response)).listen(Number(port), '127.0.0.1', () => {
  console.log(`ready ${issuer}`);
});
process.stdin.setEncoding('utf8').on('data', (text) => {
  if (text.includes('rotate')) {
    callback = provider();
    console.log('rotated');
  }
});
process.stdin.on('end', () => process.exit(0));
