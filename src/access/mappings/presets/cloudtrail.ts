import type { Fields, Mapping, Source } from '../mapping.ts';

const REFUSED = [
  '*AccessDenied*',
  '*UnauthorizedOperation*',
  '*Unauthorized*',
  '*NotAuthorized*',
  '*AuthorizationError*',
  '*Forbidden*',
  'AuthFailure',
  'Client.AuthFailure',
  '*OperationNotPermitted*',
  '*InvalidClientTokenId*',
  '*SignatureDoesNotMatch*',
];

/** Requests name what they are about in hundreds of ways; these are those of the services that people ask about. */
const NAMED_IN_REQUEST: readonly string[] = [
  ...['bucketName', 'roleArn', 'roleName', 'userName', 'groupName', 'policyArn', 'policyName', 'instanceProfileName'],
  ...['secretId', 'keyId', 'tableName', 'functionName', 'instanceId', 'groupId', 'dBInstanceIdentifier'],
  ...['dBClusterIdentifier', 'clusterName', 'repositoryName', 'stackName', 'topicArn', 'queueUrl', 'streamName'],
  ...['logGroupName', 'trailName', 'certificateArn', 'hostedZoneId', 'vpcId', 'volumeId', 'snapshotId', 'imageId'],
  ...['resourceArn', 'accessKeyId', 'name', 'id', 'arn'],
];

const TARGET_ID: readonly Source[] = [
  // As accesses to object stores have it elsewhere.
  '${requestParameters.bucketName}/${requestParameters.key}',
  '${requestParameters.bucketName}',
  '${resources.0.ARN}',
  '${resources.0.arn}',
  '${denied_target}',
  '${requestParameters.instancesSet.items.0.instanceId}',
  ...NAMED_IN_REQUEST.map((name) => `\${requestParameters.${name}}`),
  '${eventSource}',
];

const TARGET_TYPE: readonly Source[] = [
  { from: 'object', when: { 'requestParameters.bucketName': '*', 'requestParameters.key': '*' } },
  { from: 'bucket', when: { 'requestParameters.bucketName': '*' } },
  { from: 'account', when: { eventName: ['ConsoleLogin', 'SwitchRole', 'ExitRole'] } },
  '${resources.0.type}',
  { from: 'role', when: { 'requestParameters.roleArn': '*' } },
  { from: 'role', when: { 'requestParameters.roleName': '*' } },
  { from: 'account', when: { 'requestParameters.userName': '*', eventSource: 'iam.amazonaws.com' } },
  { from: 'table', when: { 'requestParameters.tableName': '*' } },
  { from: 'secret', when: { 'requestParameters.secretId': '*' } },
  'resource',
];

/** Who it was: for a role that was assumed the name of the session, which federation sets to the person's. */
const PERSON: readonly Source[] = [
  '${userIdentity.sessionContext.sourceIdentity}',
  { from: '${userIdentity.userName}', when: { 'userIdentity.type': '!AssumedRole' } },
  '${session_name}',
  { from: '${arn_name}', when: { 'userIdentity.type': 'FederatedUser' } },
  '${userIdentity.userName}',
  { from: 'root', when: { 'userIdentity.type': 'Root' } },
  '${userIdentity.onBehalfOf.userId}',
  '${userIdentity.invokedBy}',
  '${userIdentity.sessionContext.sessionIssuer.userName}',
  '${arn_name}',
  '${userIdentity.principalId}',
  '${userIdentity.accountId}',
];

const FIELDS: Fields = {
  'event.id': '${eventID}',
  '@timestamp': '${eventTime}',
  'event.action': '${eventName}',
  'event.category': [
    { from: '${eventName}', map: { ConsoleLogin: 'authentication' } },
    {
      from: '${eventSource}',
      map: {
        'iam.*': 'iam',
        'sts.*': 'iam',
        'signin.*': 'authentication',
        'sso*': 'iam',
        'cognito*': 'iam',
        's3.*': 'file',
        'dynamodb.*': 'database',
        'rds*': 'database',
      },
    },
    'api',
  ],
  'event.type': [
    { from: 'access', when: { readOnly: 'true' } },
    {
      from: '${eventName}',
      map: {
        ...{ 'Get*': 'access', 'List*': 'access', 'Describe*': 'access', 'Head*': 'access', 'Lookup*': 'access' },
        ...{
          'AssumeRole*': 'access',
          ConsoleLogin: 'start',
          'Decrypt*': 'access',
          'Query*': 'access',
          'Scan*': 'access',
        },
        ...{ 'Create*': 'creation', 'Run*': 'creation', 'Delete*': 'deletion', 'Terminate*': 'deletion' },
      },
    },
    'change',
  ],
  'event.outcome': [
    { from: 'failure', when: { errorCode: '*' } },
    { from: '${responseElements.ConsoleLogin}', map: { Success: 'success', Failure: 'failure' } },
    { from: '${responseElements.SwitchRole}', map: { Success: 'success', Failure: 'failure' } },
    { from: 'failure', when: { errorMessage: '*' } },
    'success',
  ],
  'audit.decision': [
    { from: 'deny', when: { errorCode: REFUSED } },
    { from: 'deny', when: { 'responseElements.ConsoleLogin': 'Failure' } },
    { from: 'deny', when: { errorMessage: '*not authorized to perform*' } },
  ],
  'event.reason': ['${errorCode}: ${errorMessage}', '${errorCode}', '${errorMessage}'],
  'error.type': '${errorCode}',
  'error.message': '${errorMessage}',
  'rule.name': '${denied_rule}',
  'user.id': [
    { from: '${userIdentity.sessionContext.sourceIdentity}' },
    '${userIdentity.arn}',
    '${userIdentity.onBehalfOf.userId}',
    '${userIdentity.invokedBy}',
    '${userIdentity.userName}',
    '${userIdentity.principalId}',
    '${userIdentity.accountId}',
  ],
  'user.name': PERSON,
  'user.domain': '${userIdentity.accountId}',
  'user.roles': {
    from: '${userIdentity.sessionContext.sessionIssuer.userName}',
    when: { 'userIdentity.type': 'AssumedRole' },
  },
  'user.effective.id': '${userIdentity.sessionContext.sessionIssuer.arn}',
  'user.effective.name': '${userIdentity.sessionContext.sessionIssuer.userName}',
  'audit.actor.type': [
    { from: 'anonymous', when: { 'userIdentity.accountId': ['ANONYMOUS_PRINCIPAL', 'anonymous'] } },
    {
      from: '${userIdentity.type}',
      map: { AWSService: 'service', IAMUser: 'user', Root: 'user', IdentityCenterUser: 'user' },
    },
    { from: '${userIdentity.type}', map: { SAMLUser: 'user', WebIdentityUser: 'user', FederatedUser: 'user' } },
    // A role that a service of AWS assumed for itself, or that runs on a machine.
    { from: 'service', when: { 'userIdentity.invokedBy': '*.amazonaws.com' } },
    { from: 'service', when: { session_name: ['i-*', 'AWSServiceRoleFor*', 'aws-go-sdk-*', 'botocore-session-*'] } },
  ],
  'source.ip': '${sourceIPAddress}',
  'user_agent.original': '${userAgent}',
  'audit.target.type': TARGET_TYPE,
  'audit.target.id': [
    { from: ['${requestParameters.userName}', ...PERSON], when: { eventName: 'ConsoleLogin' } },
    ...TARGET_ID,
  ],
  'audit.target.service': '${eventSource}',
};

const CHECK: Fields = {
  'audit.check.permission': ['${denied_action}', { from: '${service}:${eventName}', when: { errorCode: REFUSED } }],
  'audit.check.target': ['${denied_target}', { from: TARGET_ID, when: { errorCode: REFUSED } }],
  'audit.check.granted': [
    { from: 'false', when: { errorCode: REFUSED } },
    { from: 'false', when: { errorMessage: '*not authorized to perform*' } },
  ],
  'audit.check.rule': '${denied_rule}',
  'audit.check.engine': 'aws_iam',
};

/** AWS CloudTrail: its user guide, "CloudTrail record contents", "CloudTrail userIdentity element", and IAM's refusals in words. */
export const CLOUDTRAIL: readonly Mapping[] = [
  {
    name: 'cloudtrail',
    preset: 'cloudtrail',
    // The oldest versions have no `eventID`.
    when: { eventSource: '*.amazonaws.com*', eventName: '*', eventTime: '*' },
    extract: [
      { from: '${userIdentity.arn}', patterns: [':assumed-role/[^/]+/(?P<session_name>.+)$'] },
      { from: '${userIdentity.arn}', patterns: ['(?:/|:)(?P<arn_name>[^/:]+)$'] },
      { from: '${userIdentity.principalId}', patterns: ['^[A-Z0-9]+:(?P<session_name>.+)$'] },
      { from: '${eventSource}', patterns: [String.raw`^(?P<service>[^.]+)\.`] },
      {
        from: '${errorMessage}',
        patterns: [
          String.raw`not authorized to perform: (?P<denied_action>\S+) on resource: \"?(?P<denied_target>[^\"\s]+)\"?(?: because (?P<denied_rule>.+))?`,
          String.raw`not authorized to perform: (?P<denied_action>\S+)(?: because (?P<denied_rule>.+))?`,
        ],
      },
    ],
    fields: FIELDS,
    untraced: CHECK,
  },
];
