// Loaded before each service of the shop: node --import ./telemetry.mjs orders.mjs
import { startTelemetry } from 'spantrail/sdk';

startTelemetry({ serviceName: process.env.SHOP_SERVICE, namespace: process.env.SHOP_NAMESPACE });
